"""QEMU's machine "microvm" with programs of this host, as a peer for machines of mvm that have the same programs."""

import os, pathlib, re, select, shutil, stat, subprocess, sys, time

import sides

QEMU = "qemu-system-x86_64"
PACKAGES = {QEMU: "qemu-system-x86", "ip": "iproute2", "mount": "mount"}
MARK = b"the guest has done its work"
NULL_DEVICE, CONSOLE_DEVICE = (1, 3), (5, 1)

# What mvm's init does as well, as far as the programs need it.
INIT = """#!/usr/bin/sh
export PATH=/usr/bin:/usr/sbin:/bin:/sbin
mount -t proc proc /proc
mount -t sysfs sys /sys
mount -t devtmpfs dev /dev
ln -s /proc/self/fd /dev/fd
ln -s fd/1 /dev/stdout
exec </dev/null >/dev/hvc0 2>&1
{commands}
echo {mark}
while :; do sleep 1000; done
"""
PROGRAMS = ["sh", "mount", "umount", "ln", "cat", "ip", "sleep"]


def programs(folder, names):
    """Makes a folder of these programs and their libraries, each at its own path. Returns its parts, as mvm shares them."""
    for name in names:
        path = shutil.which(name)
        listed = subprocess.run(["ldd", path], check=True, capture_output=True, text=True).stdout
        for file in [path, *re.findall(r"/\S+", listed)]:
            to = folder / file.lstrip("/")
            to.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(file, to)
    return [{"source": str(part), "mountPoint": f"/{part.name}"} for part in sorted(folder.iterdir())]


def entries(folder, at):
    """The folder as entries of an archive, with its name there."""
    parents = pathlib.PurePath(at).parents
    yield from ((str(parent), 0o040755, (0, 0), b"") for parent in list(parents)[-2::-1])
    for path, _, files in os.walk(folder):
        to = os.path.normpath(os.path.join(at, os.path.relpath(path, folder)))
        yield to, 0o040755, (0, 0), b""
        for name in files:
            file = os.path.join(path, name)
            mode = os.lstat(file).st_mode
            content = os.readlink(file).encode() if stat.S_ISLNK(mode) else pathlib.Path(file).read_bytes()
            yield f"{to}/{name}", mode, (0, 0), content


def archive(to, folders, commands):
    """Writes an initramfs of {name there: folder} whose init carries these commands out."""
    init = INIT.format(commands="\n".join(commands), mark=MARK.decode())
    parts = [(name, 0o040755, (0, 0), b"") for name in ("dev", "proc", "sys", "tmp", "run", "etc", "data", "srv")]
    parts += [("dev/console", 0o020600, CONSOLE_DEVICE, b""), ("dev/null", 0o020666, NULL_DEVICE, b""),
              ("init", 0o100755, (0, 0), init.encode()),
              ("etc/passwd", 0o100644, (0, 0), b"root:x:0:0::/:\nnobody:x:65534:65534::/:\n"),
              ("etc/group", 0o100644, (0, 0), b"root:x:0:\nnogroup:x:65534:\n")]
    for name, folder in folders.items():
        parts += entries(folder, name)
    to.write_bytes(sides.cpio(parts))
    return to


class Silent(Exception):
    """The guest has not done its work in time."""


class Microvm:
    """A running machine. Its guest's words come by a virtio console."""

    def __init__(self, kernel, initramfs, memory_mib, devices, descriptors=(), stdin=subprocess.DEVNULL):
        command = [QEMU, "-M", "microvm,pit=off,pic=off,rtc=off,isa-serial=off", "-enable-kvm", "-cpu", "host", "-smp", "1",
                   "-m", str(memory_mib), "-nodefaults", "-no-user-config", "-display", "none", "-no-reboot",
                   "-global", "virtio-mmio.force-legacy=false", "-kernel", str(kernel), "-initrd", str(initramfs),
                   "-append", f"console=hvc0 {sides.CMDLINE}", "-chardev", "stdio,id=console,signal=off",
                   "-device", "virtio-serial-device", "-device", "virtconsole,chardev=console", *devices]
        self.process = subprocess.Popen(command, stdin=stdin, stdout=subprocess.PIPE,
                                        stderr=subprocess.STDOUT, pass_fds=descriptors)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.process.kill()
        self.process.wait()
        self.process.stdout.close()

    def output(self, patience_s):
        """All that the guest says until it has done its work. Raises Silent where that takes longer."""
        seen, deadline = b"", time.monotonic() + patience_s
        while MARK not in seen:
            ready, _, _ = select.select([self.process.stdout], [], [], max(0, deadline - time.monotonic()))
            if not ready:
                raise Silent
            more = os.read(self.process.stdout.fileno(), 65536)
            if not more:
                sys.exit(f"{sys.argv[0]}: QEMU's guest failed:\n{seen.decode(errors='replace')[-2000:]}")
            seen += more
        return seen.partition(MARK)[0].decode()
