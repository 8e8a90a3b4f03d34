//! Layer 3: the machine itself.
