#!/usr/bin/env python3
"""Compares the tokenizers with tiktoken (GPT-2) and with Hugging Face's tokenizers (training, tokenizer.json).

    python3 -m venv build/peers/tokenizer && build/peers/tokenizer/bin/pip install tiktoken tokenizers regex
    build/peers/tokenizer/bin/python tests/peers/tokenizer.py --gpt2 FOLDER --corpus FILE [--count 20000] [--seed 1] [--size 5000]

FOLDER holds GPT-2's encoder.json and vocab.bpe. Texts are random Unicode, special tokens, and invalid UTF-8. tiktoken takes no
invalid UTF-8: there the pieces are those of the same pattern with every stray byte as a lone surrogate (category Cs), and each
piece is encoded by tiktoken.
"""
import argparse
import pathlib
import random
import subprocess
import sys
import tempfile

import regex
import tiktoken
import tokenizers
from tiktoken.load import data_gym_to_mergeable_bpe_ranks

PATTERN = r"""'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+"""
SPECIAL = '<|endoftext|>'

arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
arguments.add_argument('--gpt2', required=True)
arguments.add_argument('--corpus', required=True)
arguments.add_argument('--count', type=int, default=20000)
arguments.add_argument('--seed', type=int, default=1)
arguments.add_argument('--size', type=int, default=5000)
o = arguments.parse_args()
draw = random.Random(o.seed)

ranks = data_gym_to_mergeable_bpe_ranks(f'{o.gpt2}/vocab.bpe', f'{o.gpt2}/encoder.json')
gpt2 = tiktoken.Encoding('gpt2', pat_str=PATTERN, mergeable_ranks=ranks, special_tokens={SPECIAL: 50256}, explicit_n_vocab=50257)
corpus = pathlib.Path(o.corpus).read_text('utf-8')
bits = [' ', '  ', '\n', '\r\n', '\t', '\u00a0', '\u2003', "'s", "'ll", "'RE", 'the', ' of', '123', '...', 'é', 'ß', '中文', 'Ж', '😀', '²', '\u0301', '\0']


def character(limit):
    while True:
        code = draw.randrange(limit)
        if not 0xD800 <= code < 0xE000:
            return chr(code)


def valid():
    text = ''
    for _ in range(draw.randrange(30)):
        kind = draw.randrange(6)
        if kind == 0:
            text += character(draw.choice([0x80, 0x800, 0x3000, 0x20000, 0x110000]))
        elif kind == 1:
            at = draw.randrange(len(corpus))
            text += corpus[at:at + draw.randrange(20)]
        elif kind == 2:
            text += draw.choice('a =\n') * draw.randrange(200)
        else:
            text += draw.choice(bits)
    return text


def invalid():
    data = bytearray(valid()[:60].encode('utf-8'))
    for _ in range(draw.randrange(1, 6)):
        data.insert(draw.randrange(len(data) + 1), draw.randrange(128, 256))
    # Classes of code points that are younger than tiktoken's tables could differ in `regex`: leave those texts out.
    text = bytes(data).decode('utf-8', 'surrogateescape')
    same = all(ord(c) < 0x370 or 0xD800 <= ord(c) < 0xE000 or c in ''.join(bits) for c in text)
    return bytes(data) if same else b'\xff'


texts, expected = [], []
for k in range(o.count):
    kind = k % 4
    if kind == 0:
        data = invalid()
        pieces = regex.findall(PATTERN, data.decode('utf-8', 'surrogateescape'))
        texts.append(b'n' + data)
        expected.append([i for p in pieces for i in gpt2._core_bpe.encode_single_piece(p.encode('utf-8', 'surrogateescape'))])
    elif kind == 1:
        text = valid() + SPECIAL + valid() + SPECIAL[:draw.randrange(13)]
        texts.append(b's' + text.encode('utf-8'))
        expected.append(gpt2.encode(text, allowed_special='all'))
    else:
        text = valid()
        texts.append(b'n' + text.encode('utf-8'))
        expected.append(gpt2.encode_ordinary(text))

with tempfile.TemporaryDirectory() as folder:
    path = pathlib.Path(folder)
    (path / 'texts').write_text(''.join(t.hex() + '\n' for t in texts))
    here = pathlib.Path(__file__).parent / 'tokenizer.lua'
    subprocess.run(['luajit', str(here), o.gpt2, o.corpus, str(o.size), str(path / 'texts'), str(path / 'out')], check=True)
    got = [[int(i) for i in line.split()] for line in (path / 'out').read_text().split('\n')[:-1]]
    ours = tokenizers.Tokenizer.from_file(str(path / 'out.json'))

wrong = [k for k in range(o.count) if got[k] != expected[k]]
for k in wrong[:5]:
    print('differs:', texts[k], got[k], expected[k])
print(f'GPT-2: {o.count} texts, {sum(map(len, expected))} tokens, {len(wrong)} differ from tiktoken {tiktoken.__version__}')

theirs = tokenizers.Tokenizer(tokenizers.models.BPE())
theirs.pre_tokenizer = tokenizers.pre_tokenizers.ByteLevel(add_prefix_space=False)
trainer = tokenizers.trainers.BpeTrainer(vocab_size=o.size, min_frequency=2, show_progress=False,
                                         initial_alphabet=tokenizers.pre_tokenizers.ByteLevel.alphabet())
theirs.train_from_iterator([corpus], trainer)
same_vocabulary = theirs.get_vocab() == ours.get_vocab()
same_ids = theirs.encode(corpus).ids == ours.encode(corpus).ids
print(f'training: {len(ours.get_vocab())} tokens, vocabulary {"equals" if same_vocabulary else "DIFFERS from"} that of tokenizers '
      f'{tokenizers.__version__}; it reads our tokenizer.json, ids {"equal" if same_ids else "DIFFER"}')
sys.exit(0 if not wrong and same_vocabulary and same_ids else 1)
