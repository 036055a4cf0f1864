//! Vectors of the crate that NumPy sees as arrays without a copy. The only unsafe code: the buffer protocol.

use std::ffi::{c_int, c_void};
use std::sync::{Mutex, MutexGuard, PoisonError};

use pyo3::exceptions::{PyBufferError, PyValueError};
use pyo3::ffi;
use pyo3::prelude::*;

/// One vector, lent to Python and taken back.
#[pyclass(frozen, module = "seccogc._native")]
pub struct Vector(Mutex<Lent>);

struct Lent {
    /// Empty once it was taken back. While there are views, it is neither moved to other memory nor dropped.
    numbers: Numbers,
    views: usize,
    taken: bool,
}

/// Numbers in single or double precision.
pub enum Numbers {
    /// `float32`.
    Single(Vec<f32>),
    /// `float64`.
    Double(Vec<f64>),
}

impl Numbers {
    fn len(&self) -> usize {
        match self {
            Self::Single(numbers) => numbers.len(),
            Self::Double(numbers) => numbers.len(),
        }
    }
}

impl Vector {
    /// Lends out a vector.
    pub fn new(numbers: Numbers) -> Self {
        Self(Mutex::new(Lent { numbers, views: 0, taken: false }))
    }

    fn lent(&self) -> MutexGuard<'_, Lent> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes back a vector in single precision: its own memory, or where somebody keeps a view of it, a copy.
    ///
    /// # Errors
    /// A vector that was taken back before, or one in double precision.
    pub fn take(&self) -> PyResult<Vec<f32>> {
        let mut lent = self.lent();
        if lent.taken {
            return Err(PyValueError::new_err("this vector was handed over before"));
        }
        let seen = lent.views > 0;
        let taken = match &mut lent.numbers {
            Numbers::Single(numbers) if seen => numbers.clone(),
            Numbers::Single(numbers) => std::mem::take(numbers),
            Numbers::Double(_) => return Err(PyValueError::new_err("this vector is in double precision")),
        };
        lent.taken = true;
        Ok(taken)
    }
}

/// What a view refers to as long as it lives.
struct View {
    shape: [ffi::Py_ssize_t; 1],
    strides: [ffi::Py_ssize_t; 1],
}

#[pymethods]
impl Vector {
    /// Zeros in single precision.
    #[new]
    fn zeros(length: usize) -> Self {
        Self::new(Numbers::Single(vec![0.0; length]))
    }

    fn __len__(&self) -> usize {
        self.lent().numbers.len()
    }

    /// Lends the memory itself, writable.
    unsafe fn __getbuffer__(slf: Bound<'_, Self>, view: *mut ffi::Py_buffer, flags: c_int) -> PyResult<()> {
        if view.is_null() {
            return Err(PyBufferError::new_err("no place for the view"));
        }
        let mut lent = slf.get().lent();
        if lent.taken {
            return Err(PyBufferError::new_err(
                "this vector was handed over when its client's training ended; copy what is to be kept before that",
            ));
        }
        let (start, format, size): (*mut c_void, _, usize) = match &mut lent.numbers {
            Numbers::Single(numbers) => (numbers.as_mut_ptr().cast(), c"f", size_of::<f32>()),
            Numbers::Double(numbers) => (numbers.as_mut_ptr().cast(), c"d", size_of::<f64>()),
        };
        let length = lent.numbers.len();
        let own = Box::new(View { shape: [length as isize], strides: [size as isize] });
        let asks = |flag: c_int| flags & flag == flag;
        // SAFETY: `view` is not null, and the interpreter gave it for this call. The vector's memory stays
        // where it is while `views` is not 0, and `obj` keeps this object alive for that long. `own` is freed
        // by `__releasebuffer__`, which is called once for every view.
        unsafe {
            let own = Box::into_raw(own);
            (*view).buf = start;
            (*view).len = (length * size) as isize;
            (*view).readonly = 0;
            (*view).itemsize = size as isize;
            (*view).format =
                if asks(ffi::PyBUF_FORMAT) { format.as_ptr().cast_mut() } else { std::ptr::null_mut() };
            (*view).ndim = 1;
            (*view).shape =
                if asks(ffi::PyBUF_ND) { (*own).shape.as_mut_ptr() } else { std::ptr::null_mut() };
            (*view).strides =
                if asks(ffi::PyBUF_STRIDES) { (*own).strides.as_mut_ptr() } else { std::ptr::null_mut() };
            (*view).suboffsets = std::ptr::null_mut();
            (*view).internal = own.cast();
            lent.views += 1;
            drop(lent);
            (*view).obj = slf.into_any().into_ptr();
        }
        Ok(())
    }

    /// The end of a view.
    unsafe fn __releasebuffer__(&self, view: *mut ffi::Py_buffer) {
        // SAFETY: `internal` is the box that `__getbuffer__` put there, and this is called once for it.
        unsafe { drop(Box::from_raw((*view).internal.cast::<View>())) };
        self.lent().views -= 1;
    }
}

pub fn register(module: &Bound<'_, PyModule>) -> PyResult<()> {
    module.add_class::<Vector>()
}
