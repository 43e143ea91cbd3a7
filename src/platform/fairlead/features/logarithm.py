"""A logarithm that gives the same bits on every machine, for one number or a million.

Libraries of vector instructions and the C library round logarithms differently, and from one processor to the next.
This one is made of additions, multiplications, divisions and bit operations only, which IEEE 754 rounds in one way.
"""

import math

import numpy as np

_ROOT_HALF = np.int64(0x3FE6A09E667F3BCD)
_ROOT_HALF_VALUE = float(_ROOT_HALF.view(np.float64))
_FEW = 8
_MANTISSA_BITS = np.int64(52)
_LN2_HIGH, _LN2_LOW = 6.93147180369123816490e-01, 1.90821492927058770002e-10
# Polynomial of the logarithm by its odd part: fdlibm's e_log.c (K. C. Ng, Sun Microsystems, 1993).
_EVEN = (3.999999999940941908e-01, 2.222219843214978396e-01, 1.531383769920937332e-01)
_ODD = (6.666666666666735130e-01, 2.857142874366239149e-01, 1.818357216161805012e-01, 1.479819860511658591e-01)


def signed_log(values: np.ndarray) -> np.ndarray:
    """sign(x) ln(1 + |x|) of finite float64 [...]: odd, rising, close to x near zero, error below 1e-15 of the result.

    ln(1 + x) is the logarithm of the rounded sum plus the rounding's share (Kahan's correction, in the form of Goldberg
    1991, "What every computer scientist should know about floating-point arithmetic", theorem 4).
    """
    if values.size <= _FEW:
        return np.array([_of_one(value) for value in values.ravel().tolist()]).reshape(values.shape)
    size = np.abs(values)
    total = size + 1.0
    # What rounding took from the sum, exactly (Knuth, The Art of Computer Programming 2, 4.2.2, theorem B).
    part = total - size
    lost = (size - (total - part)) + (1.0 - part)
    bits = total.view(np.int64)
    exponent = (bits - _ROOT_HALF) >> _MANTISSA_BITS
    fraction = (bits - (exponent << _MANTISSA_BITS)).view(np.float64) - 1.0
    power = exponent.astype(np.float64)
    s = fraction / (fraction + 2.0)
    z = s * s
    w = z * z
    even = w * (_EVEN[0] + w * (_EVEN[1] + w * _EVEN[2]))
    odd = z * (_ODD[0] + w * (_ODD[1] + w * (_ODD[2] + w * _ODD[3])))
    half = 0.5 * fraction * fraction
    low = power * _LN2_LOW + lost / total
    logarithm = power * _LN2_HIGH - ((half - (s * (half + (even + odd)) + low)) - fraction)
    return np.asarray(np.copysign(logarithm, values))


def _of_one(value: float) -> float:
    """The same operations on one number, for which arrays are slow."""
    size = abs(value)
    total = size + 1.0
    part = total - size
    lost = (size - (total - part)) + (1.0 - part)
    mantissa, exponent = math.frexp(total)
    if mantissa < _ROOT_HALF_VALUE:
        mantissa, exponent = 2.0 * mantissa, exponent - 1
    fraction, power = mantissa - 1.0, float(exponent)
    s = fraction / (fraction + 2.0)
    z = s * s
    w = z * z
    even = w * (_EVEN[0] + w * (_EVEN[1] + w * _EVEN[2]))
    odd = z * (_ODD[0] + w * (_ODD[1] + w * (_ODD[2] + w * _ODD[3])))
    half = 0.5 * fraction * fraction
    low = power * _LN2_LOW + lost / total
    logarithm = power * _LN2_HIGH - ((half - (s * (half + (even + odd)) + low)) - fraction)
    return math.copysign(logarithm, value)
