"""The summarizer: articles to summaries."""
