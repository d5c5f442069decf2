//! The files of pictures: `{first two bytes}/{name}-{width}.jpg`. All operations block.

use std::{
    fs, io,
    io::Write as _,
    os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _},
    path::{Path, PathBuf},
};

use bytes::Bytes;
use control_domain::features::pictures::events::PictureHash;

/// The end of the name of a file that is not complete.
const PARTIAL: &str = ".partial";

/// The folder of the files.
#[derive(Debug, Clone)]
pub(super) struct Files(PathBuf);

impl Files {
    pub(super) fn new(folder: PathBuf) -> Self {
        Self(folder)
    }

    fn shard(&self, shard: [u8; 2]) -> PathBuf {
        self.0.join(format!("{:02x}{:02x}", shard[0], shard[1]))
    }

    fn path(&self, name: PictureHash, width: u16) -> PathBuf {
        self.shard([name.0[0], name.0[1]]).join(format!("{name}-{width}.jpg"))
    }

    /// Writes the sizes of a picture, durable. Each file is complete or not there.
    pub(super) fn write(&self, name: PictureHash, sizes: &[(u16, Bytes)]) -> io::Result<()> {
        let folder = self.shard([name.0[0], name.0[1]]);
        fs::DirBuilder::new().recursive(true).mode(0o700).create(&folder)?;
        for (width, jpeg) in sizes {
            let path = self.path(name, *width);
            let partial = folder.join(format!("{name}-{width}.jpg{PARTIAL}"));
            let mut options = fs::OpenOptions::new();
            let mut file =
                options.write(true).create(true).truncate(true).mode(0o600).open(&partial)?;
            file.write_all(jpeg)?;
            file.sync_all()?;
            fs::rename(&partial, &path)?;
        }
        // So that the names are durable before the event is.
        fs::File::open(&folder)?.sync_all()?;
        fs::File::open(&self.0)?.sync_all()
    }

    /// A size of a picture; `None` if there is none.
    pub(super) fn read(&self, name: PictureHash, width: u16) -> io::Result<Option<Bytes>> {
        match fs::read(self.path(name, width)) {
            Ok(jpeg) => Ok(Some(jpeg.into())),
            Err(err) if err.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(err) => Err(err),
        }
    }

    /// All folders of files.
    pub(super) fn shards(&self) -> io::Result<Vec<[u8; 2]>> {
        let shard = |name: &str| {
            let bytes = u16::from_str_radix(name, 16).ok()?.to_be_bytes();
            (name.len() == 4).then_some(bytes)
        };
        Ok(entries(&self.0)?.iter().filter_map(|name| shard(name)).collect())
    }

    /// The names of the pictures in a folder.
    pub(super) fn names(&self, shard: [u8; 2]) -> io::Result<Vec<PictureHash>> {
        let mut names = entries(&self.shard(shard))?;
        names.retain(|name| !name.ends_with(PARTIAL));
        let names = names.iter().filter_map(|name| name.split_once('-')?.0.parse().ok());
        let mut names = names.collect::<Vec<PictureHash>>();
        names.sort_unstable();
        names.dedup();
        Ok(names)
    }

    /// Removes the files of these pictures, and those that were not completed. Nobody may write
    /// meanwhile.
    pub(super) fn remove(&self, shard: [u8; 2], names: &[PictureHash]) -> io::Result<()> {
        let folder = self.shard(shard);
        for file in entries(&folder)? {
            let name = file.split_once('-').and_then(|(name, _)| name.parse().ok());
            let is_unused = name.is_some_and(|name| names.contains(&name));
            if is_unused || file.ends_with(PARTIAL) {
                fs::remove_file(folder.join(file))?;
            }
        }
        // One that has other files stays.
        let _ = fs::remove_dir(&folder);
        Ok(())
    }
}

/// The names of the files in a folder; none if there is no folder.
fn entries(folder: &Path) -> io::Result<Vec<String>> {
    let entries = match fs::read_dir(folder) {
        Ok(entries) => entries,
        Err(err) if err.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(err) => return Err(err),
    };
    let names = entries.map(|entry| Ok(entry?.file_name().into_string().ok()));
    names.filter_map(Result::transpose).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_are_found_by_name_and_width_until_they_are_removed() {
        let folder = std::env::temp_dir().join(format!("sf-picture-files-{}", std::process::id()));
        let _ = fs::remove_dir_all(&folder);
        let files = Files::new(folder.clone());
        assert_eq!(files.shards().expect("no folder"), Vec::<[u8; 2]>::new());
        assert_eq!(files.read(PictureHash([1; 32]), 48).expect("no folder"), None);
        let (mut a, mut b) = (PictureHash([1; 32]), PictureHash([1; 32]));
        (a.0[31], b.0[31]) = (7, 8);
        for name in [a, b] {
            let sizes = [(512, Bytes::from_static(b"large")), (48, Bytes::from_static(b"small"))];
            files.write(name, &sizes).expect("it can be written");
        }
        fs::write(folder.join("0101").join(format!("{a}-48.jpg.partial")), "x").expect("a file");
        assert_eq!(files.shards().expect("a folder"), [[1, 1]]);
        assert_eq!(files.names([1, 1]).expect("a folder"), [a, b]);
        files.remove([1, 1], &[a]).expect("it can be removed");
        assert_eq!(files.names([1, 1]).expect("a folder"), [b]);
        assert_eq!(files.read(a, 48).expect("a folder"), None);
        assert_eq!(files.read(b, 48).expect("a file").as_deref(), Some(b"small".as_slice()));
        assert_eq!(files.read(b, 64).expect("a folder"), None);
        assert_eq!(fs::read_dir(folder.join("0101")).expect("a folder").count(), 2);
        files.remove([1, 1], &[b]).expect("it can be removed");
        assert!(!folder.join("0101").exists());
        fs::remove_dir_all(&folder).expect("it is ours");
    }
}
