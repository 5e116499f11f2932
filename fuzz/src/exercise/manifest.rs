//! `capture.toml`.

use std::path::{Component, Path};

use kvm_timeline::session::manifest::Manifest;

use super::drain;

pub fn run(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    match Manifest::parse(Path::new("capture.toml"), text) {
        Ok(manifest) => {
            for file in &manifest.files {
                let inside = file.path.components().all(|part| matches!(part, Component::Normal(_)));
                assert!(inside, "{} leads away", file.path.display());
            }
        }
        Err(error) => drain::refused(&error),
    }
}
