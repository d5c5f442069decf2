//! Compresses the files of the API's viewer, so that the program holds only their compressed form.

use std::{
    env, fs,
    io::{self, Write},
    path::{Path, PathBuf},
};

use flate2::{Compression, write::GzEncoder};

/// The folder of the viewer's files.
const VIEWER: &str = "../web/swagger-ui";
/// Its files that are served.
const FILES: [&str; 2] = ["swagger-ui-bundle.js", "swagger-ui.css"];

fn main() -> io::Result<()> {
    let out = PathBuf::from(env::var_os("OUT_DIR").ok_or(io::ErrorKind::NotFound)?);
    for name in FILES {
        let source = Path::new(VIEWER).join(name);
        println!("cargo::rerun-if-changed={}", source.display());
        let compressed = GzEncoder::new(Vec::new(), Compression::best());
        let compressed = write_all(compressed, &fs::read(&source)?)?;
        fs::write(out.join(format!("{name}.gz")), compressed)?;
    }
    Ok(())
}

/// Compresses `bytes`.
fn write_all(mut encoder: GzEncoder<Vec<u8>>, bytes: &[u8]) -> io::Result<Vec<u8>> {
    encoder.write_all(bytes)?;
    encoder.finish()
}
