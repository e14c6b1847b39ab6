//! Runs this program again under callgrind and reads how many instructions it counted.
//!
//! Of the ways to count a part of a program, this is the most repeatable: counting is on inside one function that is
//! never inlined, so neither start-up, nor building the bus, nor the other half of an event's trip is in the figure, and
//! no difference of two large numbers has to be taken. First-time costs are kept out by rounds that do not call it.

use std::env;
use std::io::ErrorKind;
use std::process::{Command, Stdio};

use crate::operations::Operation;

/// The function that is counted, with all that it calls.
const TOGGLE: &str = "--toggle-collect=*counted_by_callgrind*";

/// glibc picks its memcpy, memset and memcmp by the processor's features, of which valgrind passes on those it knows and
/// the processor has: the same program would count differently on another machine. Without these features all machines
/// get the SSE2 forms. Names that a glibc does not know are ignored, and other libraries ignore the variable.
const PLAIN_MEMCPY: &str = "glibc.cpu.hwcaps=-AVX512F,-AVX512VL,-AVX512BW,-AVX2,-AVX2_Usable,-AVX_Fast_Unaligned_Load,\
                            -ERMS,-FSRM,-SSSE3,-Fast_Copy_Backward,-SSE4_1,-SSE4_2";

/// Why there is no valgrind to count with.
pub(crate) fn missing() -> Option<String> {
    match Command::new("valgrind").arg("--version").stdout(Stdio::null()).stderr(Stdio::null()).status() {
        Ok(status) if status.success() => None,
        Ok(status) => Some(format!("valgrind does not run here ({status})")),
        Err(error) if error.kind() == ErrorKind::NotFound => Some("valgrind is not installed".to_owned()),
        Err(error) => Some(format!("valgrind cannot be run: {error}")),
    }
}

/// Instructions of one `operation`, the mean over all that a process does.
pub(crate) fn count(operation: &Operation, seed: u64) -> Result<f64, String> {
    let program = env::current_exe().map_err(|error| format!("this program's own file: {error}"))?;
    let run = Command::new("valgrind")
        .args(["--tool=callgrind", "--callgrind-out-file=/dev/null", TOGGLE])
        .arg(program)
        .args(["--seed", &seed.to_string(), "--run", operation.name])
        .env("GLIBC_TUNABLES", PLAIN_MEMCPY)
        .stdin(Stdio::null())
        .output()
        .map_err(|error| format!("valgrind: {error}"))?;
    let report = String::from_utf8_lossy(&run.stderr);
    if !run.status.success() {
        return Err(format!("{} under callgrind: {}\n{report}", operation.name, run.status));
    }
    let instructions = read_report(&report).map_err(|error| format!("{}: {error}", operation.name))?;
    Ok(instructions as f64 / operation.counted() as f64)
}

/// The instructions of a run, in what callgrind says at its end.
fn read_report(report: &str) -> Result<u64, String> {
    let field = |name| {
        report.lines().rev().find_map(|line| {
            let (label, value) = line.strip_prefix("==")?.split_once("== ")?.1.split_once(':')?;
            (label.trim_end() == name).then(|| value.trim())
        })
    };
    match field("Events") {
        Some("Ir") => {}
        other => return Err(format!("callgrind was to count instructions (Ir) and nothing else, not {other:?}")),
    }
    match field("Collected").map(str::parse) {
        Some(Ok(0)) => Err("callgrind did not meet the function that it was to count".to_owned()),
        Some(Ok(instructions)) => Ok(instructions),
        other => Err(format!("callgrind names no count: {other:?}")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const REPORT: &str = "==17== Callgrind, a call-graph generating cache profiler\n\
                          ==17== For interactive control, run 'callgrind_control -h'.\n\
                          a line of the program: Collected : 5\n\
                          ==17== \n\
                          ==17== Events    : Ir\n\
                          ==17== Collected : 1234567\n\
                          ==17== \n";

    #[test]
    fn the_count_is_read_from_the_end_of_the_report() {
        assert_eq!(read_report(REPORT), Ok(1_234_567));
    }

    #[test]
    fn a_run_that_counted_nothing_is_no_count_of_zero() {
        let error = read_report(&REPORT.replace("1234567", "0")).unwrap_err();
        assert!(error.contains("did not meet"), "{error}");
    }

    #[test]
    fn other_events_than_instructions_are_refused() {
        let error = read_report(&REPORT.replace(": Ir", ": Ir Dr Dw")).unwrap_err();
        assert!(error.contains("Ir Dr Dw"), "{error}");
        assert!(read_report("").is_err());
    }

    #[test]
    fn a_report_that_ends_early_is_refused() {
        let cut = REPORT.split("==17== Collected").next().unwrap();
        assert!(read_report(cut).unwrap_err().contains("no count"));
        assert!(read_report(&REPORT.replace("1234567", "many")).is_err());
    }
}
