//! MD5, which S3 uses for ETags and Content-MD5. It guards against accidents and not against an adversary.

use md5::Digest;

/// A running MD5.
#[derive(Clone, Default)]
pub struct Md5 {
    digest: md5::Md5,
}

impl Md5 {
    /// The digest of no bytes.
    pub fn new() -> Md5 {
        Md5::default()
    }

    /// Adds `bytes` to the digest.
    pub fn update(&mut self, bytes: &[u8]) {
        self.digest.update(bytes);
    }

    /// The digest of everything added.
    pub fn finish(self) -> [u8; 16] {
        self.digest.finalize().into()
    }
}

impl std::fmt::Debug for Md5 {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Md5")
    }
}

/// The MD5 of `bytes`.
pub fn md5(bytes: &[u8]) -> [u8; 16] {
    md5::Md5::digest(bytes).into()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn the_suite_of_rfc_1321_comes_out() {
        let table: [(&[u8], u128); 4] = [
            (b"", 0xd41d8cd98f00b204e9800998ecf8427e),
            (b"abc", 0x900150983cd24fb0d6963f7d28e17f72),
            (b"message digest", 0xf96b697d7cb7938d525a2f31aaf161d0),
            (b"abcdefghijklmnopqrstuvwxyz", 0xc3fcd3d76192e4007dfb496cca67e13b),
        ];
        for (bytes, digest) in table {
            assert_eq!(md5(bytes), digest.to_be_bytes());
        }
    }

    proptest! {
        #[test]
        fn pieces_give_the_whole(bytes in prop::collection::vec(any::<u8>(), 0..500), piece in 1usize..200) {
            let mut running = Md5::new();
            bytes.chunks(piece).for_each(|chunk| running.update(chunk));
            prop_assert_eq!(running.finish(), md5(&bytes));
        }
    }
}
