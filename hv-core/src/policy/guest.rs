//! Making a guest: its kernel into its memory.

pub mod pvh;

/// What a guest is made from, and made from again when it restarts.
#[derive(Clone, Copy, Debug)]
pub struct Image {
    /// The kernel, in the bundle.
    pub kernel: &'static [u8],
    /// The initial RAM disk, in the bundle.
    pub initrd: Option<&'static [u8]>,
}
