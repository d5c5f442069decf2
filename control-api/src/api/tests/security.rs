//! The security review names tests that exist.

use std::{fs, path::Path};

/// The names of the tests in a source file.
fn tests_of(source: &str) -> Vec<&str> {
    let is_mark = |line: &&str| line.starts_with("#[test]") || line.starts_with("#[tokio::test");
    let lines: Vec<_> = source.lines().map(str::trim).collect();
    let marks = lines.iter().enumerate().filter(|(_, line)| is_mark(line));
    marks
        .filter_map(|(at, _)| {
            let function = lines[at..].iter().find_map(|line| line.split_once("fn "))?.1;
            function.split_once('(').map(|(name, _)| name)
        })
        .collect()
}

#[test]
fn each_test_that_the_security_review_names_exists() {
    let docs = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs");
    let review = fs::read_to_string(docs.join("security.md")).expect("the review");
    let named: Vec<_> = review.lines().filter_map(|line| line.strip_prefix("- [")).collect();
    for line in &named {
        let (name, file) = line.split_once("](").expect("a link");
        let file = file.trim_end_matches(')');
        let text =
            fs::read_to_string(docs.join(file)).unwrap_or_else(|err| panic!("{file}: {err}"));
        assert!(tests_of(&text).contains(&name), "{file} has no test {name}");
    }
    let risks = review.lines().filter(|line| line.starts_with("## API")).count();
    assert_eq!(risks, 10);
    assert!(named.len() >= 40, "{} tests are named", named.len());
}
