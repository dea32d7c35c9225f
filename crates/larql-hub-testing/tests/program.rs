//! The hub as a program says where it is, and answers there.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::process::{Command, Stdio};

#[test]
fn the_program_names_its_address_and_answers_there() {
    let mut program =
        Command::new(env!("CARGO_BIN_EXE_larql-test-hub")).stdout(Stdio::piped()).spawn().unwrap();
    let mut lines = BufReader::new(program.stdout.take().unwrap()).lines().map(Result::unwrap);
    let endpoint = lines.next().unwrap();
    let token = lines.next().unwrap().replace("HF_TOKEN=", "");
    let mut stream = TcpStream::connect(endpoint.trim_start_matches("HF_ENDPOINT=http://")).unwrap();
    let request = format!("GET /api/whoami-v2 HTTP/1.1\r\nAuthorization: Bearer {token}\r\n\r\n");
    stream.write_all(request.as_bytes()).unwrap();
    stream.shutdown(std::net::Shutdown::Write).unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    program.kill().unwrap();
    program.wait().unwrap();
    assert!(answer.starts_with("HTTP/1.1 200") && answer.contains("\"name\":\"alice\""), "{answer}");
}
