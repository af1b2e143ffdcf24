# Everything here is a short name for a command that works by itself.

TARGET  := x86_64-unknown-linux-gnu
STATIC  := target/static
RELEASE := target/release
SHARE   := $(DESTDIR)/usr/local/share

.PHONY: all mvm guest kernel fixtures debian-kernel engines tools run test check bench install clean oracle

all: mvm guest kernel

# What cargo needs besides itself, and the emulator for hosts without hardware KVM.
tools:
	@tools/install

# Static, so that it starts without a dynamic linker, which takes longer than all else that it does before the machine;
# 18,000 addresses that the start moves are a bitmap (RELR), not 24 bytes each. The profile's `strip` is lost where it
# treats this package apart.
mvm: tools
	RUSTFLAGS="-C target-feature=+crt-static -C strip=symbols -C link-arg=-Wl,-z,pack-relative-relocs" \
	cargo build --release --locked --package mvm --target $(TARGET) --target-dir $(STATIC)
	install -D -m 755 $(STATIC)/$(TARGET)/release/mvm $(RELEASE)/mvm

# The program that runs inside the guest is static, so that it needs nothing there.
guest: tools
	RUSTFLAGS="-C target-feature=+crt-static -C relocation-model=static" \
	cargo build --profile guest --locked --package guest --target $(TARGET) --target-dir $(STATIC)
	install -D -m 755 $(STATIC)/$(TARGET)/guest/mvm-init $(RELEASE)/mvm-init

kernel: tools
	guest-kernel/build

# A real /nix/store of Debian's programs, and the examples with its paths filled in.
fixtures: tools
	tests/fixtures/store

# A distribution's kernel with its modules, which the tests boot as well.
debian-kernel:
	tests/fixtures/kernel

# Container engines, whose containers the tests have be machines.
engines:
	tests/fixtures/engines

run: all fixtures
	$(RELEASE)/mvm run target/examples/hello.json

# Formatting and lints, unit tests, then the tests that need a machine.
test: all fixtures debian-kernel engines check
	cargo test --locked --workspace
	python3 -m unittest discover --quiet --start-directory bench
	python3 bench/run --check
	tests/run
	tests/systemd

# What images come to, beside what umoci makes of them; as root.
oracle: tools
	tests/oracle

check: tools
	cargo fmt --all --check
	cargo clippy --locked --workspace --all-targets --features mvm-test/guest-tests -- --deny warnings

# Starts are measured with a kernel as others configure it as well.
bench: all fixtures
	[ -e target/guest-kernel/vmlinux-full ] || guest-kernel/build --full
	bench/run

# What `make` has built, so that root does not build.
install:
	install -D -m 755 $(RELEASE)/mvm $(DESTDIR)/usr/local/bin/mvm
	ln -sf mvm $(DESTDIR)/usr/local/bin/mvm-oci
	install -D -m 755 $(RELEASE)/mvm-init $(DESTDIR)/usr/local/libexec/mvm/mvm-init
	install -D -m 644 target/guest-kernel/vmlinux $(DESTDIR)/usr/local/lib/mvm/vmlinux
	install -D -m 644 -t $(DESTDIR)/usr/local/lib/systemd/system cli/systemd/mvm@.service cli/systemd/mvm@.socket
	install -d $(SHARE)/bash-completion/completions $(SHARE)/zsh/site-functions $(SHARE)/fish/vendor_completions.d
	$(RELEASE)/mvm completion bash >$(SHARE)/bash-completion/completions/mvm
	$(RELEASE)/mvm completion zsh >$(SHARE)/zsh/site-functions/_mvm
	$(RELEASE)/mvm completion fish >$(SHARE)/fish/vendor_completions.d/mvm.fish
	$(RELEASE)/mvm man --dir $(SHARE)/man

clean:
	cargo clean
