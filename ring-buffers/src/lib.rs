//! Rings over memory shared by two parties that distrust each other.
#![no_std]
