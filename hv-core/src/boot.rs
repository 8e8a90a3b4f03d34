//! From the loader's handover to the first guest. What reads the firmware's tables is the library's, and tested on the host.

mod entry;
mod handover;
mod init;
mod layout;
mod multiboot2;
mod panic_report;
mod processors;
mod pvh;
mod selftest;
mod shared;
