//! What readers that stop cost, seen from outside.

use std::{fs, net::Ipv4Addr};

use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpSocket, TcpStream},
};

use crate::harness::{process::Process, within};

/// Resident memory of a process, in bytes.
fn resident(process: &Process) -> u64 {
    let status = fs::read_to_string(format!("/proc/{}/status", process.id())).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
    line.trim().strip_suffix(" kB").unwrap().parse::<u64>().unwrap() * 1024
}

/// Asks for the largest file of the documentation, and takes the first bytes of the answer only.
async fn ask_and_stop(server: &Process, from: Ipv4Addr) -> TcpStream {
    let socket = TcpSocket::new_v4().unwrap();
    socket.set_recv_buffer_size(4096).unwrap();
    socket.bind((from, 0).into()).unwrap();
    let mut stream = within("a connection", socket.connect(server.addr)).await.unwrap();
    let request = "GET /api/assets/asyncapi-react-3.2.1/index.js HTTP/1.1\r\nHost: localhost\r\n\r\n";
    within("a request", stream.write_all(request.as_bytes())).await.unwrap();
    let mut status = [0; 12];
    within("an answer", stream.read_exact(&mut status)).await.unwrap();
    assert_eq!(&status, b"HTTP/1.1 200");
    stream
}

#[tokio::test]
async fn readers_that_stop_share_what_they_do_not_read() {
    let folder = tempfile::tempdir().unwrap();
    let server = Process::start(folder.path());
    let mut open = vec![ask_and_stop(&server, Ipv4Addr::LOCALHOST).await];
    let before = resident(&server);
    for number in 0..200 {
        open.push(ask_and_stop(&server, Ipv4Addr::new(127, 0, 0, 1 + number % 4)).await);
    }
    let grown = resident(&server).saturating_sub(before);
    assert!(grown < 48 * 1024 * 1024, "{} MiB more for {} readers", grown / 1024 / 1024, open.len());
}
