"""Cardano, read through Koios: ADA and native tokens, from two or more endpoints. It only looks; nothing is sent."""
