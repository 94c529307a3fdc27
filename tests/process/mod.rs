//! The server as a process: crashes, a full disk, signals, the command line, what it prints.

mod command_line;
mod crash;
mod demo;
mod disk;
mod logs;
mod mail;
mod memory;
mod mongodb;
mod shutdown;
