package store

import (
	"encoding/binary"
	"hash/crc32"
)

// combine returns the CRC of a||b from those of a and b and the bytes of b. A CRC is the remainder of a
// polynomial over GF(2): appending n bytes multiplies it by x^8n.
// Source: Mark Adler's crc32_combine of zlib, which does the same.
func combine(kind string, a, b []byte, n int64) []byte {
	if kind == CRC64NVME {
		c := field{nvme, 1 << 63}
		return binary.BigEndian.AppendUint64(nil, c.multiply(c.power(n), binary.BigEndian.Uint64(a))^binary.BigEndian.Uint64(b))
	}
	c := field{crc32.IEEE, 1 << 31}
	if kind == CRC32C {
		c.polynomial = crc32.Castagnoli
	}
	return binary.BigEndian.AppendUint32(nil, uint32(c.multiply(c.power(n), uint64(binary.BigEndian.Uint32(a)))^uint64(binary.BigEndian.Uint32(b))))
}

// field is arithmetic modulo a polynomial whose bits are reflected: one is x^0.
type field struct{ polynomial, one uint64 }

func (f field) multiply(a, b uint64) (product uint64) {
	for bit := f.one; bit != 0 && a != 0; bit >>= 1 {
		if a&bit != 0 {
			product ^= b
			a ^= bit
		}
		// b times x
		if carry := b & 1; carry != 0 {
			b = b>>1 ^ f.polynomial
		} else {
			b >>= 1
		}
	}
	return product
}

// power returns x^8n.
func (f field) power(n int64) uint64 {
	result, square := f.one, f.one>>8 // x^8
	for ; n > 0; n >>= 1 {
		if n&1 != 0 {
			result = f.multiply(result, square)
		}
		square = f.multiply(square, square)
	}
	return result
}
