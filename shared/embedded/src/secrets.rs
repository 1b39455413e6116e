//! Secrets from the environment and from files.

use std::path::{Path, PathBuf};

use async_trait::async_trait;
use ports::{Secret, SecretError, Secrets};

/// Reads `secret://crm-hook` from the environment variable `SYNCLINE_SECRET_CRM_HOOK`, else
/// from the file `secrets/crm-hook` beside `syncline.yaml`. Nothing is cached: a rotated
/// secret works with the next request.
#[derive(Debug, Clone)]
pub struct LocalSecrets {
    folder: PathBuf,
}

impl LocalSecrets {
    /// Secrets whose files are in `secrets` inside `project`.
    #[must_use]
    pub fn new(project: &Path) -> Self {
        Self {
            folder: project.join("secrets"),
        }
    }

    /// The environment variable that holds the secret `name`.
    #[must_use]
    pub fn variable(name: &str) -> String {
        let upper = name
            .to_ascii_uppercase()
            .replace(|c: char| !c.is_ascii_alphanumeric(), "_");
        format!("SYNCLINE_SECRET_{upper}")
    }
}

#[async_trait]
impl Secrets for LocalSecrets {
    async fn get(&self, name: &str) -> Result<Secret, SecretError> {
        let variable = Self::variable(name);
        if let Some(text) = runtime::env::optional(&variable) {
            return Ok(Secret::new(text));
        }
        let file = self.folder.join(name);
        match tokio::fs::read_to_string(&file).await {
            Ok(text) => Ok(Secret::new(text.trim_end_matches(['\r', '\n']).to_owned())),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
                Err(SecretError::NotFound {
                    name: name.to_owned(),
                    remedy: format!(
                        "set the environment variable {variable} or write it to {}",
                        file.display()
                    ),
                })
            }
            Err(error) => Err(SecretError::Unavailable {
                name: name.to_owned(),
                source: format!("{}: {error}", file.display()).into(),
            }),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_secret_comes_from_its_file_and_a_missing_one_says_where_to_put_it() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::create_dir(folder.path().join("secrets")).unwrap();
        std::fs::write(folder.path().join("secrets/crm-hook"), "s3cret\n").unwrap();
        let secrets = LocalSecrets::new(folder.path());
        assert_eq!(secrets.get("crm-hook").await.unwrap().expose(), "s3cret");
        let missing = secrets.get("other").await.unwrap_err().to_string();
        assert!(
            missing.contains("SYNCLINE_SECRET_OTHER") && missing.contains("secrets/other"),
            "{missing}"
        );
    }
}
