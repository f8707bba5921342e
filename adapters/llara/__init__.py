"""LLaRA (Llama2Vec): a language model learns to say in its text embedding what a text holds.

"Making Large Language Models A Better Foundation For Dense Retrieval" (arXiv 2312.15503), published as
"Llama2Vec: Unsupervised Adaptation of Large Language Models for Dense Retrieval" (ACL 2024).
"""
