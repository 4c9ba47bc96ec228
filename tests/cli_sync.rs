//! `ropeway sync` from end to end: the built binary, a server, a tree.

mod support;

use support::tree::noise;
use support::{Cmd, Server, Tree};

#[test]
fn a_tree_goes_up_and_comes_back_the_same() {
    let (server, tree) = (Server::any(), Tree::new());
    tree.file("source/a/b.txt", "hello").file("source/empty", "").file("source/big", noise(1, 20_000_000));
    let up = Cmd::sync(tree.path(), "source", "s3://round-trip/tree/").to(&server).arg("--json").expect(0);
    assert_eq!((up.count("transferred_objects"), up.count("failed_objects")), (3, 0));
    assert_eq!(up.count("verified_checksum") + up.count("verified_etag"), 3);
    Cmd::sync(tree.path(), "s3://round-trip/tree/", "back").from(&server).expect(0);
    assert_eq!(tree.contents("source"), tree.contents("back"));
}
