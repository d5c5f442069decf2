//! The use of a picture: its owner, its sizes and the name of its files.

use control_domain::{
    features::pictures::events::PictureHash,
    id::{AccountId, ChannelId},
};
use sha2::{Digest as _, Sha256};
use uuid::Uuid;

/// The width and the height of a picture in samples.
pub type Size = (u16, u16);

/// The use of a picture.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Use {
    /// The avatar of an account.
    Avatar(AccountId),
    /// The avatar of a channel.
    ChannelAvatar(ChannelId),
    /// The banner of a channel.
    Banner(ChannelId),
}

impl Use {
    /// The sizes, the largest first. The width is the name of a size.
    pub const fn sizes(self) -> &'static [Size] {
        match self {
            Self::Avatar(_) | Self::ChannelAvatar(_) => &[(512, 512), (128, 128), (48, 48)],
            Self::Banner(_) => &[(1920, 480), (960, 240)],
        }
    }

    /// Names the owner and the use.
    fn key(self) -> (u8, Uuid) {
        match self {
            Self::Avatar(account) => (0, account.uuid()),
            Self::ChannelAvatar(channel) => (1, channel.uuid()),
            Self::Banner(channel) => (2, channel.uuid()),
        }
    }

    /// The first two bytes of the names of all pictures of this use: the folder of their files. So
    /// unused ones are found without a list of all.
    pub(super) fn shard(self) -> [u8; 2] {
        let (kind, owner) = self.key();
        let digest = Sha256::new().chain_update([kind]).chain_update(owner.as_bytes()).finalize();
        [digest[0], digest[1]]
    }

    /// The name of a picture with this content.
    pub(super) fn name(self, content: &[u8]) -> PictureHash {
        let (kind, owner) = self.key();
        let digest = Sha256::new().chain_update([kind]).chain_update(owner.as_bytes());
        let mut name: [u8; 32] = digest.chain_update(content).finalize().into();
        name[..2].copy_from_slice(&self.shard());
        PictureHash(name)
    }
}
