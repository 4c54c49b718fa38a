//! This very program under callgrind.

use std::process::{Command, Stdio};

use crate::failure::Failure;

/// The C library picks its copying routines by what the processor has; without these it picks the same everywhere. Both
/// spellings: the names changed with glibc 2.33, and a name that it does not know is passed over.
const SAME_ROUTINES: &str =
    "glibc.cpu.hwcaps=-AVX512F,-AVX512VL,-AVX2,-AVX2_Usable,-AVX_Fast_Unaligned_Load,-ERMS,-FSRM";

/// Whether there is a valgrind to be run.
pub fn is_installed() -> bool {
    let version =
        Command::new("valgrind").arg("--version").stdout(Stdio::null()).stderr(Stdio::null()).status();
    version.is_ok_and(|status| status.success())
}

/// Instructions that so many messages of a case take.
pub fn count(case: &str, messages: u64) -> Result<u64, Failure> {
    let output = Command::new("valgrind")
        .args(["--tool=callgrind", "--callgrind-out-file=/dev/null"])
        .args(["--collect-atstart=no", "--toggle-collect=*counted_by_callgrind*"])
        .arg(std::env::current_exe()?)
        .args(["instructions-of", case, &messages.to_string()])
        .env("GLIBC_TUNABLES", SAME_ROUTINES)
        .output()?;
    let said = String::from_utf8_lossy(&output.stderr);
    if !output.status.success() {
        return Err(format!("\"{case}\" failed under valgrind ({}):\n{said}", output.status).into());
    }
    collected(&said).ok_or_else(|| format!("callgrind did not say what it collected:\n{said}").into())
}

/// The number in callgrind's last words, as `==12== Collected : 3456`.
fn collected(said: &str) -> Option<u64> {
    let line = said.lines().find(|line| line.contains("Collected :"))?;
    line.rsplit(' ').next()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_collected_instructions_are_read() {
        let said = "==12== Events    : Ir\n==12== Collected : 3456\n==12==\n";
        assert_eq!(collected(said), Some(3456));
        assert_eq!(collected("==12== Events    : Ir\n"), None);
    }
}
