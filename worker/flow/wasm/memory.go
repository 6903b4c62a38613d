package wasm

import "bytes"

// stride is how much memory is compared at once where the kernel does not tell which pages were written to.
const stride = 4 << 10

// compare copies back what differs from the image.
func compare(memory, img []byte) bool {
	differing(memory, img, func(from, to int) { copy(memory[from:to], img[from:to]) })
	return true
}

func differing(memory, img []byte, f func(from, to int)) {
	for from := 0; from < len(img); from += stride {
		to := min(from+stride, len(img))
		if !bytes.Equal(memory[from:to], img[from:to]) {
			f(from, to)
		}
	}
}
