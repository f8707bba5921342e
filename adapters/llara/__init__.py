"""LLaRA (Llama2Vec): a language model learns embeddings that predict the tokens of a text and of the next.

"Making Large Language Models A Better Foundation For Dense Retrieval" (arXiv 2312.15503), published as
"Llama2Vec: Unsupervised Adaptation of Large Language Models for Dense Retrieval" (ACL 2024).
"""
