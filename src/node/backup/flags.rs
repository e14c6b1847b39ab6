//! The flags of `ringmain backup` and `ringmain restore`, and their help.

use std::path::PathBuf;

use clap::Args;

use super::super::store::flags::Data;

/// The flags of `ringmain backup`.
#[derive(Debug, Clone, Args)]
pub struct Backup {
    /// The store.
    #[command(flatten)]
    pub store: Data,

    /// Make the backup in FOLDER, which must be new or empty
    #[arg(value_name = "FOLDER")]
    pub to: PathBuf,
}

/// The flags of `ringmain restore`.
#[derive(Debug, Clone, Args)]
pub struct Restore {
    /// The folder of the backup
    #[arg(value_name = "FOLDER")]
    pub from: PathBuf,

    /// Make the store in DIR, which must be new or empty
    #[arg(long, value_name = "DIR", required_unless_present = "dry_run")]
    pub data: Option<PathBuf>,

    /// Only look whether every file of the backup is as it was written
    #[arg(long, conflicts_with = "data")]
    pub dry_run: bool,
}

/// Shown by `ringmain backup --help`.
pub(in super::super) const BACKUP_HELP: &str = r#"Examples:
    ringmain backup --data ./events /mnt/backups/monday

  And whether it is whole there:
    ringmain backup --data ./events /mnt/backups/monday && ringmain restore /mnt/backups/monday --dry-run

What is in it:
  All events with their archives, snapshots, cursors, dead letters, timers and sagas, as they are at one moment. Indices are
  left out: a store makes them again. The file `backup_manifest` has the length and checksum of each file and is written last,
  so a backup that was cut short has none, and is refused by `ringmain restore`.

Exit codes:
  0  the backup is made, and survives the loss of power
  1  FOLDER has something in it, the disk is full or failed, there is no store, or another process has it open; there is no
     backup
  2  wrong flags"#;

/// Shown by `ringmain restore --help`.
pub(in super::super) const RESTORE_HELP: &str = r#"Examples:
    ringmain restore /mnt/backups/monday --data ./events

  Whether a backup is whole, without making anything:
    ringmain restore /mnt/backups/monday --dry-run

How it is done:
  Every file of the backup is looked at before anything is made. The store is made in a folder beside DIR, of the same name with
  `.restoring` behind it, and all of it is read as `ringmain store verify` does; then it takes the place of DIR. What ends this
  before leaves no store in DIR.

After it:
  Whoever reads on goes on where he was when the backup was made, and is given what came since once more; it is not in the store
  until somebody appends it again. Who keeps a bookmark elsewhere, and was further, is told that the store has lost its end; who
  keeps a bare position is told so only until the store is as long again, and should begin anew.

Exit codes:
  0  it was restored, and all of it can be read; or, with --dry-run, the backup is whole
  1  the backup is not whole, DIR has something in it, the disk is full or failed: nothing is in DIR; or something cannot be
     read that the store could not read when the backup was made: it is named on stderr, and all else is in DIR
  2  wrong flags"#;

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;
    use crate::node::args::{Cli, Command};

    fn parse(words: &str) -> Result<Command, clap::Error> {
        Cli::try_parse_from(words.split_whitespace()).map(|cli| cli.command)
    }

    #[test]
    fn every_example_in_the_help_works() {
        let examples = [BACKUP_HELP, RESTORE_HELP].into_iter().flat_map(str::lines);
        let mut commands = 0;
        for line in examples.filter(|line| line.starts_with("    ringmain ")) {
            for command in line.split("&&") {
                parse(command).expect(line);
                commands += 1;
            }
        }
        assert_eq!(commands, 5);
    }

    #[test]
    fn a_restore_needs_a_place_unless_it_only_looks() {
        let Ok(Command::Restore(restore)) = parse("ringmain restore from --data to") else { panic!("all are known") };
        assert_eq!((restore.from, restore.data, restore.dry_run), ("from".into(), Some("to".into()), false));
        for flags in
            ["restore from", "restore --data to", "restore from --data to --dry-run", "backup to", "backup --data d"]
        {
            assert_eq!(parse(&format!("ringmain {flags}")).expect_err(flags).exit_code(), 2, "{flags}");
        }
    }
}
