//! The programs in Python that judge others: what decides whether a chaos run holds, and the rules on files that are patterns.

use crate::support::python;

#[test]
fn what_judges_others_is_tested_itself() {
    for tests in ["e2e/chaos/tests.py", "infra/checks/tests.py"] {
        let output = python().arg(tests).output().unwrap();
        let text = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{tests}: {text}");
        assert!(text.contains("Ran ") && !text.contains("Ran 0 tests"), "{tests}: {text}");
    }
}
