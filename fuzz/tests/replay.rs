//! Replays the committed corpus of every fuzz target on stable.

use std::path::Path;
use std::{fs, io};

type Check = fn(&[u8]);

/// Every target, named as its folder under `corpus/`.
const TARGETS: &[(&str, Check)] = &[
    ("frames", ringmain_fuzz::frames::check),
    ("ingress", ringmain_fuzz::ingress::check),
    ("patterns", ringmain_fuzz::patterns::check),
];

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
fn every_corpus_folder_belongs_to_a_target() -> io::Result<()> {
    for entry in fs::read_dir(corpus())? {
        let folder = entry?.file_name();
        assert!(TARGETS.iter().any(|(target, _)| folder == **target), "{folder:?} is never replayed");
    }
    Ok(())
}
