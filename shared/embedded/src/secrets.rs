//! Secrets from the environment and from files.

use std::{
    collections::HashMap,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use async_trait::async_trait;
use jiff::Timestamp;
use ports::{Clock, Secret, SecretError, Secrets};

/// Reads `secret://crm-hook` from the environment variable `SYNCLINE_SECRET_CRM_HOOK`, else
/// from the file `secrets/crm-hook` beside `syncline.yaml`. A secret is kept for a few
/// seconds, so that a rotated one works soon and a busy webhook does not read its file for
/// every request.
#[derive(Debug, Clone)]
pub struct LocalSecrets {
    folder: PathBuf,
    clock: Arc<dyn Clock>,
    known: Arc<Mutex<HashMap<String, (Timestamp, Secret)>>>,
}

/// How long a secret is kept.
const FRESH: Duration = Duration::from_secs(5);

impl LocalSecrets {
    /// Secrets whose files are in `secrets` inside `project`.
    #[must_use]
    pub fn new(project: &Path, clock: Arc<dyn Clock>) -> Self {
        Self {
            folder: project.join("secrets"),
            clock,
            known: Arc::default(),
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

    async fn read(&self, name: &str) -> Result<Secret, SecretError> {
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

#[async_trait]
impl Secrets for LocalSecrets {
    async fn get(&self, name: &str) -> Result<Secret, SecretError> {
        let now = self.clock.now();
        let known = self
            .known
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .get(name)
            .cloned();
        if let Some((read, secret)) = known
            && now < read + FRESH
        {
            return Ok(secret);
        }
        let secret = self.read(name).await?;
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        known.insert(name.to_owned(), (now, secret.clone()));
        Ok(secret)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_secret_comes_from_its_file_and_a_rotated_one_works_soon() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("secrets/crm-hook");
        std::fs::create_dir(folder.path().join("secrets")).unwrap();
        std::fs::write(&file, "s3cret\n").unwrap();
        let clock = Arc::new(ports::testing::ManualClock::default());
        let secrets = LocalSecrets::new(folder.path(), Arc::clone(&clock) as Arc<dyn Clock>);
        assert_eq!(secrets.get("crm-hook").await.unwrap().expose(), "s3cret");
        std::fs::write(&file, "rotated").unwrap();
        clock.advance(FRESH);
        assert_eq!(secrets.get("crm-hook").await.unwrap().expose(), "rotated");
        let missing = secrets.get("other").await.unwrap_err().to_string();
        assert!(
            missing.contains("SYNCLINE_SECRET_OTHER") && missing.contains("secrets/other"),
            "{missing}"
        );
    }
}
