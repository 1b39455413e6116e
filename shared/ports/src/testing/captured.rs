use std::{
    io,
    sync::{Arc, Mutex},
};

/// Keeps what is written to any of its clones, for a test to read.
#[derive(Debug, Clone, Default)]
pub struct Captured(Arc<Mutex<Vec<u8>>>);

impl Captured {
    /// All of it, as text.
    #[must_use]
    pub fn text(&self) -> String {
        let written = self.0.lock().expect("no test writes and panics");
        String::from_utf8_lossy(&written).into_owned()
    }
}

impl io::Write for Captured {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let mut written = self.0.lock().expect("no test writes and panics");
        written.extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
