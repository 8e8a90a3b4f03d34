//! From the loader's handover to the first guest. The code that reads the firmware's tables is in the library, and tested on the host.

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
