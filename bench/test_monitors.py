"""Tests of how monitors are started: `python3 -m unittest discover bench`."""

import pathlib, subprocess, tempfile, unittest

import monitors

# A library that starts nothing, and says what it was told.
LIBRARY = r"""
#include <stdint.h>
#include <stdio.h>
#include <unistd.h>
int32_t krun_create_ctx() { return 7; }
int32_t krun_set_vm_config(uint32_t id, uint8_t vcpus, uint32_t mib) { printf("%u %u %u\n", id, vcpus, mib); return 0; }
int32_t krun_set_kernel(uint32_t id, const char *kernel, uint32_t format, const char *archive, const char *cmdline) {
    printf("%u %s %u %s %.13s\n", id, kernel, format, archive, cmdline);
    return 0;
}
int32_t krun_add_serial_console_default(uint32_t id, int input, int output) {
    printf("%u %d %d\n", id, input, output);
    return 0;
}
int32_t krun_start_enter(uint32_t id) { puts("MARK"); fflush(stdout); for (;;) pause(); }
""".replace("MARK", monitors.MARK.decode())


class Libkrun(unittest.TestCase):
    def setUp(self):
        held = tempfile.TemporaryDirectory()
        self.addCleanup(held.cleanup)
        self.folder = pathlib.Path(held.name)

    def command(self, source):
        (self.folder / "library.c").write_text(source)
        library = self.folder / "libkrun.so.1.17.4"
        subprocess.run(["gcc", "-shared", "-fPIC", "-o", library, self.folder / "library.c"], check=True)
        return monitors.libkrun(library, self.folder, "archive", "kernel")

    def test_it_is_told_the_kernel_and_the_machine_and_is_there_until_its_end(self):
        command = self.command(LIBRARY)
        monitors.end(monitors.start(command))
        with subprocess.Popen(command.words, stdout=subprocess.PIPE, text=True) as process:
            seen = [process.stdout.readline() for _ in range(4)]
            process.kill()
        self.assertEqual(seen, ["7 1 128\n", "7 kernel 1 archive console=ttyS0\n", "7 0 1\n", f"{monitors.MARK.decode()}\n"])
        self.assertEqual(monitors.version_text("libkrun", self.folder / "libkrun.so.1.17.4"), "libkrun.so.1.17.4")

    def test_what_it_refuses_is_told(self):
        refusing = LIBRARY.replace("return 7", "return -22")
        done = subprocess.run(self.command(refusing).words, stderr=subprocess.PIPE, text=True)
        self.assertEqual((done.returncode, done.stderr), (1, "krun_create_ctx: error 22\n"))
