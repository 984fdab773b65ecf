//! Owns what can only be shown with a disk that fails.
