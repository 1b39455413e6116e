//! The page that shows the numbers.

const PAGE: &str = include_str!("../../../infra/aws/SCALE.md");

/// Asserts that the page has this line, which a model has come to.
pub(crate) fn says(line: &str) {
    let found = PAGE.lines().any(|written| written == line);
    assert!(found, "infra/aws/SCALE.md does not say any more:\n{line}");
}

/// A number with its thousands apart.
pub(crate) fn apart(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::new();
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

#[test]
fn thousands_are_apart() {
    let all = [7, 999, 1_000, 12_345_678].map(apart);
    assert_eq!(all, ["7", "999", "1,000", "12,345,678"]);
}
