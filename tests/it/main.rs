//! All integration tests in one binary. `tests/run` installs what they need and runs them.

mod exposition;
mod peers;
