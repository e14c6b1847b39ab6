//! `ringmain dlq --url`: the dead letters of a running node.

use serde::Deserialize;
use serde_json::Value;

use super::super::dlq::flags::{Chosen, List, Purge, Redrive, Show, Which};
use super::super::dlq::told::Told;
use super::super::human::grouped;
use super::super::progress::Progress;
use super::super::store::pace::Pace;
use super::super::store::{Failure, print};
use super::connect::{Connection, Remote, query};
use super::write;
use crate::Pattern;

const PATH: &str = "/v1/dead-letters";
/// Exit code for flags that do not go together.
const WRONG: u8 = 2;

/// A page of letters.
#[derive(Deserialize)]
struct Page<'a> {
    #[serde(borrow)]
    dead_letters: Vec<Told<'a>>,
}

/// What the flags mean, behind the question mark; `is_all` where all of them have to be named.
fn meant(which: &Which, is_all: bool) -> String {
    let pattern = which.on.as_ref().map(|pattern| Pattern::as_str(pattern).to_owned());
    query([("type", pattern), ("subscription", which.subscription.clone()), ("all", is_all.then(|| "true".to_owned()))])
}

/// Takes each letter that is meant, oldest first, page by page, until one is the last.
fn each(
    node: &Connection,
    which: &Which,
    mut take: impl FnMut(&Told<'_>) -> Result<bool, Failure>,
) -> Result<(), Failure> {
    let mut path = Some(format!("{PATH}{}", meant(which, false)));
    while let Some(page) = path {
        let answer = node.get(&page)?;
        for letter in answer.read::<Page<'_>>()?.dead_letters {
            if !take(&letter)? {
                return Ok(());
            }
        }
        path = answer.next;
    }
    Ok(())
}

/// Writes a line a letter.
pub(in super::super) fn list(node: &Remote, flags: &List) -> Result<u8, Failure> {
    let mut left = flags.limit.unwrap_or(u64::MAX);
    each(&Connection::open(node)?, &flags.which, |letter| {
        print((if flags.json { letter.json() } else { letter.row() } + "\n").as_bytes())?;
        left -= 1;
        Ok(left > 0)
    })?;
    Ok(0)
}

/// Writes all that is known of one.
pub(in super::super) fn show(node: &Remote, flags: &Show) -> Result<u8, Failure> {
    let answer = Connection::open(node)?.get(&format!("{PATH}/{}", flags.id))?;
    write(&answer.read::<Told<'_>>()?.text(false))?;
    Ok(0)
}

/// Has the node publish the events of letters once more.
pub(in super::super) fn redrive(node: &Remote, flags: &Redrive) -> Result<u8, Failure> {
    let (node, chosen) = (Connection::open(node)?, &flags.chosen);
    if let Some(wrong) = wrong(chosen) {
        return Ok(wrong);
    }
    let mut ids = chosen.ids.clone();
    match flags.rate {
        None if ids.is_empty() => {
            let path = format!("{PATH}/redrive{}", meant(&chosen.which, chosen.all));
            let redriven = node.does("POST", &path, &Value::Null)?.json()?["redriven"].as_u64();
            say_redriven(redriven.unwrap_or(0));
            return Ok(0);
        }
        Some(_) if ids.is_empty() => each(&node, &chosen.which, |letter| {
            ids.push(letter.id);
            Ok(true)
        })?,
        _ => {}
    }
    let (mut pace, mut redriven) = (flags.rate.map(Pace::new), 0);
    let result = ids.iter().try_for_each(|id| {
        if let Some(pace) = &mut pace {
            pace.next(|| Ok(()))?;
        }
        node.does("POST", &format!("{PATH}/{id}/redrive"), &Value::Null)?;
        redriven += 1;
        Ok(())
    });
    say_redriven(redriven);
    result.map(|()| 0)
}

/// Has the node remove letters for good.
pub(in super::super) fn purge(node: &Remote, flags: &Purge) -> Result<u8, Failure> {
    let (node, chosen) = (Connection::open(node)?, &flags.chosen);
    if let Some(wrong) = wrong(chosen) {
        return Ok(wrong);
    }
    if chosen.ids.is_empty() {
        let path = format!("{PATH}{}", meant(&chosen.which, chosen.all));
        let purged = node.does("DELETE", &path, &Value::Null)?.json()?["purged"].as_u64();
        return purged_of(purged.unwrap_or(0)).map(|()| 0);
    }
    let mut purged = 0;
    let result = chosen.ids.iter().try_for_each(|id| {
        let answer = node.ask("DELETE", &format!("{PATH}/{id}"), None)?;
        // One that is not there is gone already.
        if answer.problem().is_some_and(|problem| problem.kind == "not-found") {
            return Ok(());
        }
        node.done(answer)?;
        purged += 1;
        Ok(())
    });
    purged_of(purged)?;
    result.map(|()| 0)
}

fn say_redriven(number: u64) {
    Progress::silent().say(&format!("ringmain: {} dead letters redriven\n", grouped(number)));
}

fn purged_of(number: u64) -> Result<(), Failure> {
    write(&format!("{} dead letters purged\n", grouped(number)))
}

/// What cannot be asked of a node, said.
fn wrong(chosen: &Chosen) -> Option<u8> {
    let is_wrong = !chosen.ids.is_empty() && (chosen.which.on.is_some() || chosen.which.subscription.is_some());
    is_wrong.then(|| {
        Progress::silent().say(
            "ringmain: at a node letters are named by their ids, or else by --on and --subscription; leave one out\n",
        );
        WRONG
    })
}
