//! The explorer's files.

use super::*;

#[test]
fn the_page_and_its_files_come_with_a_strict_policy() {
    let server = TestServer::shared();
    let page = server.get("/");
    assert_eq!((page.status, page.header("content-type")), (200, Some("text/html; charset=utf-8")));
    let policy = page.header("content-security-policy").unwrap();
    assert!(policy.contains("default-src 'none'") && !policy.contains("unsafe"), "{policy}");
    assert!(!page.text.contains("http://") && !page.text.contains("https://"), "the page asks no other host");
    let script = server.get("/explorer/main.js");
    assert_eq!(script.header("content-type"), Some("text/javascript; charset=utf-8"));
    let tag = script.header("etag").unwrap().to_owned();
    assert_eq!(server.ask("GET", "/explorer/main.js", &[("if-none-match", &tag)], "").status, 304);
    assert_eq!(server.get("/explorer/../Cargo.toml").status, 404);
    let without = TestServer::start(ServeOptions { docs: false, ..options() });
    assert_eq!([without.get("/").status, without.get("/openapi.json").status], [404, 404]);
}
