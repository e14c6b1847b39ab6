//! Replays the committed corpus of every fuzz target on stable.

use std::path::Path;
use std::{fs, io};

type Check = fn(&[u8]);

/// Every target, named as its folder under `corpus/`.
const TARGETS: &[(&str, Check)] = &[
    ("attempts", ringmain_fuzz::attempts::check),
    ("bodies", ringmain_fuzz::bodies::check),
    ("cells", ringmain_fuzz::cells::check),
    ("frames", ringmain_fuzz::frames::check),
    ("ingress", ringmain_fuzz::ingress::check),
    ("lanes", ringmain_fuzz::lanes::check),
    ("latest", ringmain_fuzz::latest::check),
    ("letters", ringmain_fuzz::letters::check),
    ("patterns", ringmain_fuzz::patterns::check),
    ("recovery", ringmain_fuzz::recovery::check),
    ("routing", ringmain_fuzz::routing::check),
    ("rules", ringmain_fuzz::rules::check),
];

/// Files of a target, and bytes of each: a corpus is read by people too.
const FILES_MAX: usize = 30;
const BYTES_MAX: u64 = 1024;

fn corpus() -> &'static Path {
    Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/corpus"))
}

#[test]
fn every_target_passes_its_corpus() -> io::Result<()> {
    for (target, check) in TARGETS {
        let mut replayed = 0;
        for entry in fs::read_dir(corpus().join(target))? {
            let file = entry?.path();
            // Captured, and shown if the check panics.
            println!("replaying {}", file.display());
            check(&fs::read(&file)?);
            replayed += 1;
        }
        assert!(replayed > 0, "{target} has an empty corpus");
    }
    Ok(())
}

#[test]
fn the_corpus_is_small() -> io::Result<()> {
    for (target, _) in TARGETS {
        let files = fs::read_dir(corpus().join(target))?.collect::<Result<Vec<_>, _>>()?;
        assert!(files.len() <= FILES_MAX, "{target} has {} files, at most {FILES_MAX} are kept", files.len());
        for file in files {
            let bytes = file.metadata()?.len();
            assert!(bytes < BYTES_MAX, "{} has {bytes} bytes, fewer than {BYTES_MAX} are kept", file.path().display());
        }
    }
    Ok(())
}

#[test]
fn every_corpus_folder_belongs_to_a_target() -> io::Result<()> {
    for entry in fs::read_dir(corpus())? {
        let folder = entry?.file_name();
        assert!(TARGETS.iter().any(|(target, _)| folder == **target), "{folder:?} is never replayed");
    }
    Ok(())
}
