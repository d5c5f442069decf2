# make run    builds the daemon and runs it on this machine, with the built-in test picture
# make test   runs everything that continuous integration checks
# make deb    builds the Debian package, into target/debian
# make test-package   installs, runs, upgrades and removes the package in a Debian 12 tree (as root; some minutes)
#
# Each target first installs missing packages: Debian packages with apt, and the players of the tests
# with npm and pip. Installed packages are not changed. A Rust toolchain and Node must be installed.

# Packages to build and run the daemon.
PACKAGES := build-essential pkg-config \
	libgstreamer1.0-dev libgstreamer-plugins-base1.0-dev \
	gstreamer1.0-plugins-base gstreamer1.0-plugins-good gstreamer1.0-plugins-bad gstreamer1.0-plugins-ugly gstreamer1.0-libav

# The clients and caches of the tests, Prometheus, and systemd, which checks the unit files.
TEST_PACKAGES := gstreamer1.0-tools ffmpeg librtmp-dev libxml2-utils chromium \
	curl nghttp2-client nginx varnish openssl prometheus python3-venv systemd

# Packages to make and boot a Debian 12 tree.
TREE_PACKAGES := debootstrap systemd-container util-linux curl ffmpeg openssl python3-venv lintian

CARGO_DEB := target/tools/bin/cargo-deb

PLAYERS := tests/players/node_modules/.package-lock.json
VENV := tests/players/.venv/.requirements.txt

# The tests of the daemon mostly wait for real time to pass, so more of them run at once than there
# are cores (tests/integration/support/machine.rs).
export RUST_TEST_THREADS ?= 20

.PHONY: help run test deb test-package packages test-packages tree-packages
help:
	@sed -n 's/^# \(make .*\)/\1/p' Makefile

run: packages
	cargo run --release --locked -- serve --config conf/dev.toml

# One pass compiles and lints: clippy's driver is the compiler with lints, which are errors here.
test: export RUSTC_WORKSPACE_WRAPPER := clippy-driver
test: export CLIPPY_ARGS := -D__CLIPPY_HACKERY__warnings
test: test-packages $(PLAYERS) $(VENV)
	cargo fmt --all --check
	@scripts/language || true # a report: it never fails the build
	@scripts/circles
	cargo test --workspace --all-targets --locked --no-run
# All other programs run before those of the daemon: beside them, players would stand still.
	programs=$$(scripts/test-programs integration) && \
	cargo test --workspace --locked --lib --bin streamforge $$programs
	cargo test --workspace --locked --test integration

deb: packages $(CARGO_DEB)
	scripts/third-party-notices >target/third-party-notices
	$(CARGO_DEB) --locked --dbgsym

test-package: tree-packages $(VENV) deb
	scripts/test-package

packages:
	@scripts/need-packages $(PACKAGES)

test-packages:
	@scripts/need-packages $(PACKAGES) $(TEST_PACKAGES)

tree-packages:
	@scripts/need-packages $(TREE_PACKAGES)

$(CARGO_DEB):
	cargo install --quiet --locked --root target/tools cargo-deb@3.8.0

# npm writes this file last, so a broken installation is done again.
$(PLAYERS): tests/players/package.json tests/players/package-lock.json
	@echo "installing the players that the tests drive: npm ci in tests/players"
	@cd tests/players && npm ci --no-audit --no-fund --loglevel=error
	@touch $@

# Copied last, for the same reason. Uses Debian's Python, because its venv package is listed above.
$(VENV): tests/players/requirements.txt
	@echo "installing the Python programs that the tests drive, into tests/players/.venv"
	@/usr/bin/python3 -m venv --clear tests/players/.venv
	@tests/players/.venv/bin/pip install --quiet --disable-pip-version-check --require-hashes --only-binary :all: -r $<
	@cp $< $@
