"""Threefry-2x32 with 20 rounds in Python integers, from Salmon et al., SC'11, sections 3.3 and 4.

The known answers are those that its authors publish with Random123 (kat_vectors, `threefry2x32 20`).
"""

KNOWN_ANSWERS = [
    # (key, counter, output)
    ((0x00000000, 0x00000000), (0x00000000, 0x00000000), (0x6B200159, 0x99BA4EFE)),
    ((0xFFFFFFFF, 0xFFFFFFFF), (0xFFFFFFFF, 0xFFFFFFFF), (0x1CB996FC, 0xBB002BE7)),
    ((0x13198A2E, 0x03707344), (0x243F6A88, 0x85A308D3), (0xC4923A9C, 0x483DF7A0)),
]

_WORD = 2**32
_ROTATIONS = [13, 15, 26, 6, 17, 29, 16, 24]


def threefry(key, counter):
    words = [key[0], key[1], 0x1BD11BDA ^ key[0] ^ key[1]]
    left, right = (counter[0] + words[0]) % _WORD, (counter[1] + words[1]) % _WORD
    for round_number in range(20):
        rotation = _ROTATIONS[round_number % 8]
        left = (left + right) % _WORD
        right = ((right << rotation) % _WORD | right >> (32 - rotation)) ^ left
        if round_number % 4 == 3:
            injection = round_number // 4 + 1
            left = (left + words[injection % 3]) % _WORD
            right = (right + words[(injection + 1) % 3] + injection) % _WORD
    return left, right
