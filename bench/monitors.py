"""Monitors that boot one kernel with a tiny init: a static program of 1 KiB that writes one line and waits."""

import argparse, json, os, pathlib, select, shutil, subprocess, sys, typing

import sides

QEMU = "qemu-system-x86_64"
PACKAGES = {"gcc": "gcc", QEMU: "qemu-system-x86"}
MARK = b"first output of init"
MEMORY_MIB = 128
PATIENCE_S = 60
CMDLINE = f"console=ttyS0 8250.nr_uarts=1 {sides.CMDLINE}"

INIT = r"""
static long call(long n, long a, const void *b, long c) {
    long r;
    __asm__ volatile("syscall" : "=a"(r) : "a"(n), "D"(a), "S"(b), "d"(c) : "rcx", "r11", "memory");
    return r;
}
void _start(void) {
    static const char mark[] = "MARK\n";
    call(1, 1, mark, sizeof mark - 1);
    for (;;) call(34, 0, 0, 0);
}
""".replace("MARK", MARK.decode())

# Its functions are declared as in its libkrun.h; 1 is KRUN_KERNEL_FORMAT_ELF. Bound lazily, as some builds
# lack what only others call.
LIBKRUN = r"""
#include <dlfcn.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
static void *library;
static void *function(const char *name) {
    void *found = library ? dlsym(library, name) : NULL;
    if (!found) { fprintf(stderr, "%s\n", dlerror()); exit(1); }
    return found;
}
static void check(int32_t done, const char *what) {
    if (done < 0) { fprintf(stderr, "%s: error %d\n", what, -done); exit(1); }
}
int main(int count, char **words) {
    library = count == 5 ? dlopen(words[1], RTLD_LAZY) : NULL;
    int32_t (*create)(void) = function("krun_create_ctx");
    int32_t (*configure)(uint32_t, uint8_t, uint32_t) = function("krun_set_vm_config");
    int32_t (*set_kernel)(uint32_t, const char *, uint32_t, const char *, const char *) = function("krun_set_kernel");
    int32_t (*add_serial)(uint32_t, int, int) = function("krun_add_serial_console_default");
    int32_t (*start)(uint32_t) = function("krun_start_enter");
    int32_t machine = create();
    check(machine, "krun_create_ctx");
    check(configure(machine, 1, MEMORY), "krun_set_vm_config");
    check(set_kernel(machine, words[2], 1, words[3], words[4]), "krun_set_kernel");
    check(add_serial(machine, 0, 1), "krun_add_serial_console_default");
    check(start(machine), "krun_start_enter");
}
""".replace("MEMORY", str(MEMORY_MIB))


class Command(typing.NamedTuple):
    """How a monitor is started."""
    words: list
    environment: dict = {}
    # Whether it takes nothing else for its standard input.
    wants_terminal: bool = False


def build_init(folder):
    source, program = folder / "init.c", folder / "init"
    source.write_text(INIT)
    flags = ["-O2", "-static", "-nostdlib", "-ffreestanding", "-fno-stack-protector", "-fcf-protection=none"]
    subprocess.run(["gcc", *flags, "-o", program, source], check=True)
    return program


def initramfs(folder, init):
    path = folder / "initramfs"
    path.write_bytes(sides.cpio([("dev", 0o040755, (0, 0), b""), ("dev/console", 0o020600, (5, 1), b""),
                                 ("init", 0o100755, (0, 0), init.read_bytes())]))
    return path


def in_memory(folder, path, name):
    """A copy of the file in the folder, which is in memory."""
    return shutil.copy(path, folder / name)


def mvm(folder, init, kernel, name):
    app = {"name": "boot", "vcpus": 1, "memory": MEMORY_MIB, "kernel": {"path": str(kernel)}, "store": "none",
           "console": {"mode": "stdio", "kernel": "quiet"}, "app": {"entrypoint": "/init"}}
    path = folder / f"{name}.json"
    path.write_text(json.dumps(app))
    program = in_memory(folder, sides.MVM, "mvm")
    variables = {"MVM_INIT": str(init), "MVM_RUNTIME_DIR": str(folder / "run")}
    return Command([str(program), "--accel", "kvm", "run", str(path)], variables)


def qemu(folder, archive, kernel):
    return Command([QEMU, "-M", "microvm,pit=off,pic=off,rtc=off,isa-serial=on", "-enable-kvm", "-cpu", "host",
                    "-smp", "1", "-m", str(MEMORY_MIB), "-nodefaults", "-no-user-config", "-display", "none", "-no-reboot",
                    "-serial", "stdio", "-kernel", str(kernel), "-initrd", str(archive), "-append", CMDLINE])


def firecracker(binary, folder, archive, kernel):
    config = folder / "firecracker.json"
    config.write_text(json.dumps({
        "boot-source": {"kernel_image_path": str(kernel), "initrd_path": str(archive), "boot_args": CMDLINE},
        "drives": [], "machine-config": {"vcpu_count": 1, "mem_size_mib": MEMORY_MIB}}))
    return Command([in_memory(folder, binary, "firecracker"), "--no-api", "--config-file", str(config)])


def cloud_hypervisor(binary, folder, archive, kernel):
    program = in_memory(folder, binary, "cloud-hypervisor")
    return Command([program, "--kernel", str(kernel), "--initramfs", str(archive), "--cmdline", CMDLINE, "--cpus", "boot=1",
                    "--memory", f"size={MEMORY_MIB}M", "--serial", "tty", "--console", "off"])


def alioth(binary, folder, archive, kernel):
    program = in_memory(folder, binary, "alioth")
    is_elf = pathlib.Path(kernel).read_bytes()[:4] == b"\x7fELF"
    return Command([program, "boot", "--pvh" if is_elf else "--kernel", str(kernel), "--initramfs", str(archive),
                    "--cmdline", CMDLINE, "--cpu", "count=1", "--memory", f"size={MEMORY_MIB}M"], wants_terminal=True)


def libkrun(library, folder, archive, kernel):
    """A program of the library, whose own console shows nothing unless it is a terminal."""
    source, program = folder / "libkrun.c", folder / "libkrun"
    source.write_text(LIBKRUN)
    subprocess.run(["gcc", "-O2", "-o", program, source, "-ldl"], check=True)
    return Command([str(program), in_memory(folder, library, "libkrun.so"), str(kernel), str(archive), CMDLINE])


# Those that are measured when there is a path of their program, or of their library.
COMMANDS = {"Firecracker": firecracker, "cloud-hypervisor": cloud_hypervisor, "alioth": alioth, "libkrun": libkrun}
LIBRARIES = {"libkrun"}


def start(command):
    """A monitor whose guest has written its line."""
    ours, terminal = os.openpty() if command.wants_terminal else (None, subprocess.DEVNULL)
    process = subprocess.Popen(command.words, env={**os.environ, **command.environment}, stdin=terminal,
                               stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    if command.wants_terminal:
        os.close(terminal)
        # The terminal is there for as long as somebody has this end.
        process.terminal = open(ours, "rb", buffering=0)
    seen = b""
    try:
        while MARK not in seen:
            ready, _, _ = select.select([process.stdout], [], [], PATIENCE_S)
            more = os.read(process.stdout.fileno(), 65536) if ready else b""
            if not more:
                sys.exit(f"{sys.argv[0]}: {command.words[0]} did not boot:\n{seen.decode(errors='replace')[-2000:]}")
            seen += more
    except BaseException:
        end(process)
        raise
    return process


def end(process):
    process.kill()
    process.wait()
    process.stdout.close()


def peers(args, folder, kernel, archive):
    """How the others are started of which there is a program, by their names."""
    found = {"QEMU microvm": qemu(folder, archive, kernel)}
    for name, command in COMMANDS.items():
        if binary := getattr(args, option(name)):
            found[name] = command(binary, folder, archive, kernel)
    return found


def option(name):
    return name.lower().replace("-", "_")


def add_arguments(parser):
    for name in COMMANDS:
        is_library = name in LIBRARIES
        parser.add_argument(f"--{name.lower()}", metavar="PATH", type=library if is_library else executable,
                            help=f"measure this {'library' if is_library else 'binary'} of {name} as well")


def version_text(name, path):
    """What says which version it is: the program itself, or the name of the library's file."""
    if name in LIBRARIES:
        return os.path.basename(os.path.realpath(path))
    done = subprocess.run([path, "--version"], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    return (done.stdout.splitlines() or ["?"])[0]


def executable(path):
    """An argument that names a program."""
    if not os.access(path, os.X_OK) or os.path.isdir(path):
        raise argparse.ArgumentTypeError(f"{path} is no program that can be executed")
    return os.path.abspath(path)


def library(path):
    """An argument that names a shared library."""
    if not os.path.isfile(path):
        raise argparse.ArgumentTypeError(f"{path} is no file")
    return os.path.abspath(path)
