use std::time::UNIX_EPOCH;

use clap::Parser;

use super::*;
use crate::node::args::{Cli, Command};

fn parse(words: &[&str]) -> Result<Store, clap::Error> {
    Cli::try_parse_from(["ringmain", "store"].iter().chain(words)).map(|cli| match cli.command {
        Command::Store(store) => store,
        other => panic!("{other:?}"),
    })
}

#[test]
fn every_example_in_the_help_works() {
    let helps = [help::APPEND_HELP, help::QUERY_HELP, help::EXPORT_HELP, help::IMPORT_HELP, help::STATS_HELP];
    let more = [help::VERIFY_HELP, help::ARCHIVE_HELP, help::REPLAY_HELP, help::COMPACT_HELP, help::CAUSATION_HELP];
    let mut commands = 0;
    for help in helps.into_iter().chain(more) {
        let before = commands;
        for line in help.lines().filter(|line| line.starts_with("    ")) {
            for words in line.split("ringmain store ").skip(1) {
                let flags = words.split(['<', '|', '>', '&']).next().unwrap_or_default().replace('\'', "");
                parse(&flags.split_whitespace().collect::<Vec<_>>()).expect(line);
                commands += 1;
            }
        }
        assert!(commands > before && help.contains("Exit codes:"), "{help}");
    }
    assert_eq!(commands, 24);
}

#[test]
fn what_a_query_asks_for_arrives() {
    let words = "query --data d --on a.* --source s --correlation 00000000-0000-7000-8000-00000000000c --aggregate order/7/x \
                 --after 9 --since 1960-01-01T00:00:00Z --until 2026-01-01T00:00:00.5Z --newest-first --limit 3";
    let Ok(Store::Query(find)) = parse(&words.split_whitespace().collect::<Vec<_>>()) else { panic!("all are known") };
    let moment = |unix_ns| UNIX_EPOCH + Duration::from_nanos(unix_ns);
    let wanted = Query::new()
        .pattern(Pattern::new("a.*").expect("a pattern"))
        .source("s")
        .correlation("00000000-0000-7000-8000-00000000000c".parse().expect("a UUID"))
        .aggregate("order", "7/x")
        .behind(Position::new(9).expect("not 0"))
        .created_from(UNIX_EPOCH)
        .created_before(moment(1_767_225_600_500_000_000));
    assert_eq!(find.filter.query(), wanted);
    assert_eq!((find.newest_first, find.limit), (true, Some(3)));
}

#[test]
fn what_is_to_be_replayed_arrives() {
    let words = "replay --data d --from 9 --to 2026-01-01T00:00:00Z --type a.* --rate 0.5 --dry-run";
    let Ok(Store::Replay(replay)) = parse(&words.split_whitespace().collect::<Vec<_>>()) else {
        panic!("all are known")
    };
    let pattern = Pattern::new("a.*").expect("a pattern");
    let wanted = Query::new().pattern(pattern).from_position(Position::new(9).expect("not 0"));
    let new_year = UNIX_EPOCH + Duration::from_secs(1_767_225_600);
    assert_eq!(replay.query(), wanted.created_before(new_year));
    assert_eq!((replay.rate, replay.dry_run), (Some(0.5), true));
    let words = "replay --data d --from 1960-01-01T00:00:00Z --to 7";
    let Ok(Store::Replay(replay)) = parse(&words.split_whitespace().collect::<Vec<_>>()) else {
        panic!("all are known")
    };
    let wanted = Query::new().created_from(UNIX_EPOCH).to_position(Position::new(7).expect("not 0"));
    assert_eq!(replay.query(), wanted);
}

#[test]
fn what_is_to_be_archived_arrives() {
    let words = ["archive", "--data", "d", "--older-than", "2h", "--remove-older-than", "3d", "--max-bytes", "9"];
    let Ok(Store::Archive(archive)) = parse(&words) else { panic!("all are known") };
    let hours = |hours: u64| Duration::from_secs(hours * 60 * 60);
    let wanted = Retention::forever().archive_after(hours(2)).remove_after(hours(72)).bytes_max(9);
    assert_eq!(archive.retention(), wanted);
    let more = ["--remove-unread-older-than", "4d", "--max-unread-bytes", "7", "--remove-unsnapshotted"];
    let Ok(Store::Archive(archive)) = parse(&[&words[..], &more[..]].concat()) else { panic!("all are known") };
    assert_eq!(archive.retention(), wanted.remove_unread_after(hours(96)).unread_bytes_max(7).remove_unsnapshotted());
    let Ok(Store::Archive(archive)) = parse(&words[..3]) else { panic!("all are known") };
    assert_eq!(archive.retention(), Retention::default());
}

#[test]
fn values_out_of_range_are_refused_with_exit_code_2() {
    for words in [
        "query",
        "query --data d --url http://x:1",
        "export --url http://x:1",
        "query --data d --after 0",
        "query --data d --limit 0",
        "query --data d --aggregate order",
        "query --data d --since yesterday",
        "query --data d --correlation 7",
        "append --data d --durability accepted",
        "append --data d --segment-bytes 4096",
        "replay --data d --from 0",
        "replay --data d --to tomorrow",
        "replay --data d --rate 0",
        "replay --data d --rate fast",
        "import --data d --all --ids-max 5",
        "compact",
        "archive --data d --older-than 3w",
        "archive --data d --older-than d",
        "archive --data d --remove-unread-older-than 3d",
        "archive --data d --max-unread-bytes 3",
        "archive --data d --remove-unsnapshotted",
        "archive --data d --older-than 999999999999999999d",
        "verify",
    ] {
        let words: Vec<_> = words.split_whitespace().collect();
        assert_eq!(parse(&words).expect_err("refused").exit_code(), 2, "{words:?}");
    }
}
