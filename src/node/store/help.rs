//! What `ringmain store COMMAND --help` teaches; a test runs each example through the parser.

pub(super) const APPEND_HELP: &str = r#"Examples:
  One event, durably; its id is written once it is:
    echo '{"type": "orders.placed", "data": {"id": 7}}' | ringmain store append --data ./events --ack

  A log in JSON, its `event` member as the type:
    ringmain store append --data ./events --type event < log.ndjson

  An event of an aggregate, which `query --aggregate order/7` finds:
    echo '{"type": "orders.paid", "aggregatetype": "order", "aggregateid": "7", "aggregateversion": "2"}' | ringmain store append --data ./events

Words:
  written  the operating system has the event: it survives the end of the process, also by kill -9
  durable  the event was synced: it survives the loss of power, as far as the disk is honest

Exit codes:
  0  all lines were read; malformed and refused ones, if any, are named on stderr by their numbers
  1  stdin could not be read, stdout not be written, the store failed, or another process has it open; what was
     acknowledged is kept
  2  wrong flags, or a malformed line under --strict"#;

pub(super) const QUERY_HELP: &str = r#"Examples:
  All events:
    ringmain store query --data ./events

  The ten latest orders:
    ringmain store query --data ./events --on 'orders.**' --newest-first --limit 10

  What happened to an order since New Year, from behind position 1,000:
    ringmain store query --data ./events --aggregate order/7 --since 2026-01-01T00:00:00Z --after 1000

  Of a node that runs; --aggregate, --since and --until are for folders:
    ringmain store query --url http://127.0.0.1:8080 --on 'orders.**' --newest-first --limit 3

Exit codes:
  0  all that matches was written; or nobody reads stdout any more
  1  some events cannot be read, which are named on stderr and passed over; or the store failed, another process has it
     open, or no node is there
  2  wrong flags"#;

pub(super) const EXPORT_HELP: &str = r#"Examples:
  All events to a file:
    ringmain store export --data ./events --output events.ndjson

  What a shop did in January, compressed on its way:
    ringmain store export --data ./events --source /shop --since 2026-01-01T00:00:00Z --until 2026-02-01T00:00:00Z | zstd > shop.ndjson.zst

Exit codes:
  0  all that matches was written; or nobody reads stdout any more
  1  some events cannot be read, which are named on stderr and passed over; or FILE is there already or cannot be written,
     the store failed, or another process has it open
  2  wrong flags"#;

pub(super) const IMPORT_HELP: &str = r#"Examples:
  A file that was exported; once more it changes nothing, so an import that was stopped is begun again:
    ringmain store import --data ./copy events.ndjson

  From one store to another:
    ringmain store export --data ./events | ringmain store import --data ./copy

Events that are there:
  One whose id the store has is left out and counted, and so is one whose id stood in an earlier line. A line without an id
  is a new event each time. For that the ids of the store are read first and kept in memory, some 30 bytes each. With --all
  nothing is left out, and nothing kept.

Exit codes:
  0  all lines were read; malformed and refused ones, if any, are named on stderr by their numbers
  1  FILE or stdin could not be read, the store failed, or another process has it open; import it again
  2  wrong flags, or a malformed line under --strict"#;

pub(super) const STATS_HELP: &str = r#"Examples:
    ringmain store stats --data ./events
    ringmain store stats --data ./events --json | jq .events

Exit codes:
  0  it was said
  1  there is no store, or another process has it open
  2  wrong flags"#;

pub(super) const VERIFY_HELP: &str = r#"Examples:
  Before it is relied on:
    ringmain store verify --data ./events && echo whole

  What cannot be read is named by file, byte and position. Restore the file from a backup, or go on without these events:
  all other events are found. A last write that a kill cut short was not acknowledged and is cut off. When the machine went
  down, what it had not synced is cut off too, events, cursors, letters and sagas that were acknowledged as written among
  it: that is said until something is appended.

Exit codes:
  0  all can be read
  1  something cannot, or may be lost at the end, and is named on stderr; or there is no store, or another process has it
     open
  2  wrong flags"#;

pub(super) const ARCHIVE_HELP: &str = r#"Examples:
  What would be done:
    ringmain store archive --data ./events --older-than 30d --dry-run

  Compress what is a month old, remove what is a year old:
    ringmain store archive --data ./events --older-than 30d --remove-older-than 365d

  Keep the newest 10 GB, uncompressed size:
    ringmain store archive --data ./events --max-bytes 10000000000

  Remove what is a year old, and what is two years old also where a subscription that nobody opens any more has not come to it:
    ringmain store archive --data ./events --remove-older-than 365d --remove-unread-older-than 730d

What is kept all the same:
  Events that somebody who reads on has not come to, if his cursor is in this store: durable subscriptions and publishers,
  projections, process managers. And events that an aggregate is made of and no snapshot of it has. The oldest go first, so
  what is behind them is kept, too. A line says which events are kept, for whom, and where he stands.

Compression:
  zstd at its fastest level, about level 1, in blocks of 64 KiB: that is the one there is. A file whose events repeat names
  and shapes becomes a fifth to a third, at 30 MB a second; one that would not shrink stays as it is. Each archive is read
  back and compared before its file goes.

Exit codes:
  0  it was done
  1  the disk failed, there is no store, or another process has it open; files that were done are done
  2  wrong flags"#;

pub(super) const REPLAY_HELP: &str = r#"Examples:
  How much it would be, and how long it would take:
    ringmain store replay --data ./events --type 'orders.**' --rate 500 --dry-run

  A day once more at 500 events a second:
    ringmain store replay --data ./events --from 2026-01-31T00:00:00Z --to 2026-02-01T00:00:00Z --rate 500 | ringmain pipe --quiet

  From position 1,000 to 2,000, as fast as it is read:
    ringmain store replay --data ./events --from 1000 --to 2000

Lines:
  A line is that of `query` with the attribute `replay`, true: by it, by its `id` and its `position` a consumer tells that it
  may have handled the event before.

Exit codes:
  0  all that matches was written; or nobody reads stdout any more
  1  some events cannot be read, which are named on stderr and passed over; or the store failed, or another process has
     it open
  2  wrong flags"#;

pub(super) const COMPACT_HELP: &str = r#"Examples:
    ringmain store compact --data ./events

  Each change of a key leaves its old record behind, which goes when much is dead; this lets go of it now, all but what is
  in the newest file. It is of use before a backup, or after many dead letters were purged. Events are not touched: `ringmain
  store archive` makes them smaller.

Exit codes:
  0  it was done, or there was nothing to do
  1  something cannot be read, and would be given up: --accept-damage does; or the disk failed, there is no store, or
     another process has it open
  2  wrong flags"#;

pub(super) const CAUSATION_HELP: &str = r#"Examples:
    ringmain store causation --data ./events 00000000-0000-7000-8000-00000000000c

Exit codes:
  0  it was drawn
  1  no event has this correlation, the store failed, or another process has it open
  2  wrong flags"#;
