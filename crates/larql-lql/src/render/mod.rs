//! How results and errors look.

mod diagnostic;

pub use diagnostic::diagnostic;
