//! What guests say.
