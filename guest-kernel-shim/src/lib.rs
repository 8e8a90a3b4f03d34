//! What a guest kernel links.
#![no_std]
