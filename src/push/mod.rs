//! Sending pushes: to the services that bring them to devices.

pub mod web;
