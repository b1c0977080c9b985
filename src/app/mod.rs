//! Configuration, wiring, commands.

/// Stand-in until the application lands.
pub fn main() -> std::process::ExitCode {
    std::process::ExitCode::SUCCESS
}
