//! The environment, read once and with the variable's name in every error.

/// A variable that is missing or cannot be read as what it should be.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum EnvError {
    /// It is not set.
    #[error("the environment variable {0} is not set")]
    Missing(String),
    /// It is set to something else.
    #[error("the environment variable {name} is `{value}`: {why}")]
    Invalid {
        /// The variable.
        name: String,
        /// What it holds.
        value: String,
        /// What it should hold.
        why: String,
    },
}

/// The value of a variable that may be missing. An empty one counts as missing.
#[must_use]
#[expect(
    clippy::disallowed_methods,
    reason = "this is the place they are disallowed in favour of"
)]
pub fn optional(name: &str) -> Option<String> {
    std::env::var(name).ok().filter(|value| !value.is_empty())
}

/// The value of a variable that must be set.
pub fn required(name: &str) -> Result<String, EnvError> {
    optional(name).ok_or_else(|| EnvError::Missing(name.to_owned()))
}

/// The value of a variable as `T`, or `default` when it is missing.
pub fn parsed<T>(name: &str, default: T) -> Result<T, EnvError>
where
    T: std::str::FromStr,
    T::Err: std::fmt::Display,
{
    let Some(value) = optional(name) else {
        return Ok(default);
    };
    value.parse().map_err(|error: T::Err| EnvError::Invalid {
        name: name.to_owned(),
        why: error.to_string(),
        value,
    })
}
