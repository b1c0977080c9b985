//! `mailweir`: parses the command line, calls the application, sets the exit code.

use std::process::ExitCode;

fn main() -> ExitCode {
    mailweir::app::main()
}
