//! Where tensors live, chosen at run time among the backends that were compiled in.

use std::str::FromStr;

use crate::error::{Error, Result};

/// A compute device: the value of `--device`.
///
/// Each backend is a Cargo feature of this crate: `flex` (CPU, the default), `ndarray` (CPU) and `wgpu`
/// (GPU). `cpu` means the best CPU backend of this build. Results are reproducible bit for bit on one CPU
/// backend, not from one backend to another.
#[derive(Clone, Debug)]
pub struct Device {
    name: &'static str,
    inner: burn::tensor::Device,
}

impl Device {
    /// Every name that [`Device::from_str`] knows, compiled in or not.
    pub const NAMES: &'static [&'static str] = &["cpu", "flex", "ndarray", "wgpu"];

    /// The name of the backend: `flex`, `ndarray` or `wgpu`.
    #[must_use]
    pub fn name(&self) -> &'static str {
        self.name
    }

    /// Burn's device, without automatic differentiation.
    #[must_use]
    pub fn plain(&self) -> burn::tensor::Device {
        self.inner.clone()
    }

    /// Burn's device, with automatic differentiation.
    #[must_use]
    pub fn autodiff(&self) -> burn::tensor::Device {
        self.inner.clone().autodiff()
    }

    #[cfg(feature = "flex")]
    fn flex() -> Option<Self> {
        Some(Self { name: "flex", inner: burn::tensor::Device::flex() })
    }

    #[cfg(not(feature = "flex"))]
    fn flex() -> Option<Self> {
        None
    }

    #[cfg(feature = "ndarray")]
    #[allow(deprecated)] // Burn prefers flex; this backend serves as an independent check of it.
    fn ndarray() -> Option<Self> {
        Some(Self { name: "ndarray", inner: burn::tensor::Device::ndarray() })
    }

    #[cfg(not(feature = "ndarray"))]
    fn ndarray() -> Option<Self> {
        None
    }

    /// Burn opens the GPU once per process.
    #[cfg(feature = "wgpu")]
    fn wgpu() -> Result<Option<Self>> {
        use std::sync::OnceLock;

        static OPENED: OnceLock<std::result::Result<burn::tensor::Device, String>> = OnceLock::new();
        let open = || burn::tensor::Device::wgpu_options().init().map_err(|error| error.to_string());
        match OPENED.get_or_init(open) {
            Ok(device) => Ok(Some(Self { name: "wgpu", inner: device.clone() })),
            Err(problem) => {
                let problem = problem.replace('\n', " ");
                let rule =
                    format!("no GPU: {problem}; install a driver for Vulkan, Metal or DirectX, or take cpu");
                Err(Error::config("device", rule))
            }
        }
    }

    #[cfg(not(feature = "wgpu"))]
    fn wgpu() -> Result<Option<Self>> {
        Ok(None)
    }
}

impl FromStr for Device {
    type Err = Error;

    /// Fails with [`Error::Config`] on an unknown name, on a backend that this build leaves out, and on
    /// `wgpu` without a GPU.
    fn from_str(name: &str) -> Result<Self> {
        let (device, feature) = match name {
            "cpu" => (Self::flex().or_else(Self::ndarray), "flex"),
            "flex" => (Self::flex(), "flex"),
            "ndarray" => (Self::ndarray(), "ndarray"),
            "wgpu" => (Self::wgpu()?, "wgpu"),
            _ => {
                let known = Self::NAMES.join(", ");
                return Err(Error::config("device", format!("`{name}` is not one of {known}")));
            }
        };
        device.ok_or_else(|| {
            let rule = format!(
                "`{name}` is not in this build; rebuild with `cargo build --release --features {feature}`"
            );
            Error::config("device", rule)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    #[cfg(feature = "flex")]
    fn cpu_is_flex_when_compiled_in() {
        assert_eq!("cpu".parse::<Device>().unwrap().name(), "flex");
    }

    #[test]
    fn unknown_and_uncompiled_devices_are_one_clear_line() {
        let error = "abacus".parse::<Device>().unwrap_err().to_string();
        assert_eq!(error, "device: `abacus` is not one of cpu, flex, ndarray, wgpu");
        for (name, compiled) in [
            ("flex", cfg!(feature = "flex")),
            ("ndarray", cfg!(feature = "ndarray")),
            ("wgpu", cfg!(feature = "wgpu")),
        ] {
            match name.parse::<Device>() {
                Ok(device) => assert!(compiled && device.name() == name),
                Err(error) => {
                    let error = error.to_string();
                    let left_out = !compiled && error.ends_with(&format!("--features {name}`"));
                    assert!(left_out || compiled && error.starts_with("device: no GPU: "), "{error}");
                }
            }
        }
    }
}
