"""What benchmarks share that measure several monitors side by side."""

import os, pathlib, shutil, sys

ROOT = pathlib.Path(__file__).resolve().parent.parent
MVM = ROOT / "target/release/mvm"
OWN_KERNEL = ROOT / "target/guest-kernel/vmlinux"
# What each monitor's guest is told: no bus to probe, silence, a panic ends it.
CMDLINE = "quiet loglevel=1 panic=-1 pci=off tsc=reliable no_timer_check random.trust_cpu=on noreplace-smp"


def need(packages):
    """Ends with the Debian packages of those programs that are not there."""
    # Of a user's search path, Debian leaves out where mke2fs is.
    os.environ["PATH"] += ":/usr/sbin:/sbin"
    missing = sorted({package for program, package in packages.items() if not shutil.which(program)})
    if missing:
        sys.exit(f"{sys.argv[0]}: apt-get install {' '.join(missing)}")


def hardware_kvm():
    return os.path.exists("/dev/kvm") and any(map(os.path.exists, ["/sys/module/kvm_intel", "/sys/module/kvm_amd"]))


def go_where_kvm_is():
    """Returns where there is hardware KVM. Elsewhere the command is carried out in mvm's emulated host, and this is its end."""
    if not hardware_kvm():
        os.execv(str(MVM), [str(MVM), "emulator", "exec", "--", sys.executable, *sys.argv])


def mvm_in_memory(folder):
    """A copy of mvm and of its guest's program beside it, in that folder, which is in memory. Returns mvm's."""
    for name in "mvm-init", "mvm":
        copied = shutil.copy(MVM.parent / name, folder / name)
    return str(copied)


def cpio(entries):
    """An archive in the newc format of (path, mode, device, content)."""
    archive = []
    for number, (path, mode, device, content) in enumerate([*entries, ("TRAILER!!!", 0, (0, 0), b"")]):
        name = path.encode() + b"\0"
        fields = [number, mode, 0, 0, 1, 0, len(content), 0, 0, *device, len(name), 0]
        head = b"070701" + b"".join(b"%08x" % field for field in fields) + name
        archive += head, b"\0" * (-len(head) % 4), content, b"\0" * (-len(content) % 4)
    return b"".join(archive)


def in_turn(names, rounds):
    """The names, as often as there are rounds: back and forth, so that none always follows the same one."""
    for number in range(rounds):
        for name in list(names)[:: -1 if number % 2 else 1]:
            print(f"round {number + 1} of {rounds}: {name}", file=sys.stderr, flush=True)
            yield name

