//! Where the source orders memory: every call that takes an ordering stronger than Relaxed.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

/// One ordering of one call.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Site {
    /// Relative to the root of the repository.
    pub(crate) file: String,
    pub(crate) function: String,
    /// Receiver and method, as `self.tail.store`.
    pub(crate) operation: String,
    /// Of its `SYNC` comment.
    pub(crate) labels: String,
    pub(crate) ordering: String,
    /// A hash of the function's text: a verdict was about this text.
    pub(crate) text: String,
    /// Where the call's name stands, and which of its orderings this is: what the compiler calls its location.
    pub(crate) line: usize,
    pub(crate) column: usize,
    pub(crate) nth: usize,
}

impl Site {
    /// As the program tells it and is told.
    pub(crate) fn place(&self) -> String {
        format!("{}:{}:{}:{}", self.file, self.line, self.column, self.nth)
    }

    /// What it may be weakened to, one step at a time.
    pub(crate) fn weaker(&self) -> &'static [&'static str] {
        let is = |name: &str| self.operation.split(',').next().is_some_and(|call| call.ends_with(name));
        match self.ordering.as_str() {
            "SeqCst" if is("compiler_fence") => &["none"],
            "SeqCst" if is("fence") => &["AcqRel", "none"],
            "SeqCst" if is(".load") => &["Acquire"],
            "SeqCst" if is(".store") => &["Release"],
            "SeqCst" => &["AcqRel"],
            "AcqRel" => &["Acquire", "Release"],
            _ => &["Relaxed"],
        }
    }
}

fn is_name(c: char) -> bool {
    c.is_alphanumeric() || c == '_'
}

/// The text as characters, comments and strings blanked, up to its tests.
fn code(text: &str) -> Vec<char> {
    let text = ["\n#[cfg(test)]", "\n#[cfg(all(test"]
        .iter()
        .fold(text, |text, tests| text.split(tests).next().unwrap_or(text));
    let mut code = Vec::new();
    for line in text.lines() {
        let mut quoted = false;
        let mut characters = line.chars().peekable();
        while let Some(c) = characters.next() {
            if !quoted && c == '/' && characters.peek() == Some(&'/') {
                break;
            }
            if c == '"' {
                quoted = !quoted;
            }
            code.push(if quoted && c != '"' { ' ' } else { c });
            if quoted && c == '\\' {
                code.extend(characters.next().map(|_| ' '));
            }
        }
        code.push('\n');
    }
    code
}

/// The call that takes what stands at `at`: where its name begins, and which argument it is.
fn call_around(code: &[char], at: usize) -> Option<(usize, usize)> {
    let (mut depth, mut argument) = (0, 0);
    for nth in (0..at).rev() {
        match code[nth] {
            ')' | ']' | '}' => depth += 1,
            ',' if depth == 0 => argument += 1,
            ';' | '{' if depth == 0 => return passed_on(code, nth + 1, at),
            '(' if depth == 0 => {
                let begin =
                    (0..nth).rev().find(|&before| !is_name(code[before]) && code[before] != '!').map_or(0, |b| b + 1);
                // A bug planted stands in the place of the ordering, or of the call.
                return if code[nth - 1] == '!' { call_around(code, begin) } else { Some((begin, argument)) };
            }
            '(' | '[' | '{' => depth -= 1,
            _ => {}
        }
    }
    None
}

/// The call that takes the variable which the statement from `begin` to `end` binds.
fn passed_on(code: &[char], begin: usize, end: usize) -> Option<(usize, usize)> {
    let statement: String = code[begin..end].iter().collect();
    let name = statement.trim_start().strip_prefix("let ")?.split_whitespace().next()?;
    let name: Vec<_> = name.chars().collect();
    let is_it = |at: &usize| {
        code[*at..].starts_with(&name)
            && !is_name(code[at - 1])
            && !code.get(at + name.len()).copied().is_some_and(is_name)
    };
    call_around(code, (end..code.len()).find(is_it)?)
}

/// What the method at `begin` is called on, with its name.
fn receiver(code: &[char], begin: usize) -> String {
    let mut from = begin;
    let mut depth = 0;
    while from > 0 {
        match code[from - 1] {
            ')' | ']' => depth += 1,
            '(' | '[' if depth > 0 => depth -= 1,
            c if depth > 0 || is_name(c) || c == '.' || c == ':' => {}
            _ => break,
        }
        from -= 1;
    }
    let end = (begin..code.len()).find(|&at| !is_name(code[at])).unwrap_or(code.len());
    code[from..end].iter().collect()
}

/// The name of the last `fn` before `at`, and a hash of its text: without comments, strings and blanks, which change no
/// ordering.
fn function(code: &[char], at: usize) -> (String, String) {
    let begin = (0..at).rev().find(|&at| code[at..].starts_with(&['f', 'n', ' '])).map_or(at, |begin| begin + 3);
    let name = code[begin..].iter().copied().take_while(|&c| is_name(c)).collect();
    let mut depth = 0;
    let mut is_over = false;
    let text = code[begin..].iter().copied().take_while(|&c| {
        depth += i32::from(c == '{') - i32::from(c == '}');
        !std::mem::replace(&mut is_over, c == '}' && depth == 0)
    });
    // FNV-1a: the same in every version of the compiler.
    let hash = text
        .filter(|c| !c.is_whitespace())
        .fold(0xcbf2_9ce4_8422_2325, |hash: u64, c| (hash ^ u64::from(u32::from(c))).wrapping_mul(0x0100_0000_01b3));
    (name, format!("{:08x}", hash >> 32 ^ hash & 0xffff_ffff))
}

/// The sites of one file.
pub(crate) fn sites(file: &str, text: &str) -> Vec<Site> {
    let code = code(text);
    let lines: Vec<_> = text.lines().collect();
    let mark: Vec<_> = "Ordering::".chars().collect();
    let mut sites: Vec<Site> = Vec::new();
    for at in (0..code.len()).filter(|&at| code[at..].starts_with(&mark)) {
        let ordering: String = code[at + mark.len()..].iter().copied().take_while(|&c| is_name(c)).collect();
        if !["Acquire", "Release", "AcqRel", "SeqCst"].contains(&ordering.as_str()) {
            continue;
        }
        let line_of = |at: usize| code[..at].iter().filter(|&&c| c == '\n').count();
        let (begin, argument) = call_around(&code, at).unwrap_or_else(|| panic!("{file}:{}: no call", line_of(at) + 1));
        let mut operation = receiver(&code, begin);
        let mut nth = 0;
        if operation.contains("compare_exchange") || operation.ends_with("fetch_update") {
            nth = usize::from(argument % 2 == 1);
            operation.push_str([", success", ", failure"][nth]);
        }
        let column = begin - code[..begin].iter().rposition(|&c| c == '\n').map_or(0, |before| before + 1) + 1;
        let labels = lines[..=line_of(at)].iter().rev().find_map(|line| line.trim_start().strip_prefix("// SYNC("));
        let (function, text) = function(&code, at);
        sites.push(Site {
            file: file.to_owned(),
            function,
            text,
            operation,
            labels: labels.and_then(|rest| rest.split(')').next()).unwrap_or_default().to_owned(),
            ordering,
            line: line_of(begin) + 1,
            column,
            nth,
        });
    }
    // The same words twice in one function are two sites.
    let mut met = BTreeMap::new();
    for site in &mut sites {
        let times = met.entry((site.function.clone(), site.operation.clone())).or_insert(0);
        *times += 1;
        if *times > 1 {
            site.operation.push_str(&format!(", {times}."));
        }
    }
    sites
}

/// The sites of all files under `root/src`, in the order of their names.
pub(crate) fn all(root: &Path) -> Vec<Site> {
    let mut folders = vec![root.join("src")];
    let mut files = Vec::new();
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).expect("a folder of the repository") {
            let path = entry.expect("an entry of a folder").path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                files.push(path);
            }
        }
    }
    files.sort();
    let of_file = |path: &Path| {
        let name = path.strip_prefix(root).expect("it was found there").display().to_string();
        sites(&name, &fs::read_to_string(path).expect("a file of the repository"))
    };
    files.iter().flat_map(|path| of_file(path)).collect()
}
