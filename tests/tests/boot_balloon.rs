//! A stock Linux whose balloon reports free memory: another guest has it meanwhile, and Linux gets it back when it touches it.
#![cfg(feature = "boot")]

use runner::machine::{Ended, Machine};
use runner::scenario::Scenario;
use std::path::Path;

/// The machine has some MiB besides what the two begin with, the bundle and the hypervisor: what `takes` grows by can only be what
/// `linux` has reported.
const SCENARIO: &str = r#"
[machine]
tsc = "trusted"
memory_mib = 384
timeout_s = 60
[[guest]]
name = "linux"
kernel = "linux"
initrd = "linux"
mode = "kvm"
vcpus = 2
memory_mib = 256
balloon = true
command_line = "console=ttyS0 quiet panic=-1 comity.do=shell"
[[guest]]
name = "takes"
kernel = "exercise"
mode = "cooperative"
memory_mib = 16
memory_max_mib = 128
command_line = "do=memory first=2 blocks=1 rounds=1"
[input]
guest = "linux"
"#;

#[test]
fn what_linux_reports_another_guest_has_until_linux_touches_it_again() {
    let scenario = Scenario::parse(Path::new("balloon.toml"), SCENARIO.into());
    let machine = Machine::of_scenario(&scenario.unwrap_or_else(|refusal| panic!("{refusal}")));
    let mut running = machine
        .unwrap_or_else(|refusal| panic!("{refusal}"))
        .start()
        .unwrap_or_else(|error| panic!("{error}"));
    let taken = running.wait_for(|line| line.text.contains("#memory taken="));
    assert!(taken.is_some(), "{}", running.finish().transcript());
    // More than what was left.
    running.type_text(
        "text() { dd if=/dev/zero bs=1M count=90 2>/dev/null | tr \"\\\\000\" c; }; text >/tmp/all; a=$(md5sum </tmp/all); b=$(text | md5sum)\n\
         [ \"$a\" = \"$b\" ] && echo kept whole; poweroff -f\n",
    );
    let outcome = running.finish();
    let transcript = outcome.transcript();
    assert_eq!(outcome.ended, Ended::Well, "{transcript}");
    assert!(outcome.lines_of("linux").contains(&"kept whole"), "{transcript}");
    assert_eq!(outcome.number("takes", "memory", "taken"), Some(1 + 56), "{transcript}");
    assert_eq!(outcome.number("takes", "memory", "dirty"), Some(0), "{transcript}");
}
